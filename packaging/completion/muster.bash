# bash completion for muster(1)

_muster() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local words=() word skip='' flags='--json --socket --help --version'
    # The words of the command so far, without flags and their values.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ -n $skip ]]; then
            skip=''
        elif [[ $word == --socket || $word == --mac || $word == --add || $word == --remove || $word == --guest || $word == --format || $word == --form || $word == --state || $word == --timeout ]]; then
            skip=1
        elif [[ $word != -* ]]; then
            words+=("$word")
        fi
    done
    COMPREPLY=()
    case $prev in
        --socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --form) mapfile -t COMPREPLY < <(compgen -W 'hosts genders clustershell slurm ansible' -- "$cur"); return ;;
        --state) mapfile -t COMPREPLY < <(compgen -W 'up booting stuck failed down reserved vacant' -- "$cur"); return ;;
        --timeout) return ;;
        --format) mapfile -t COMPREPLY < <(compgen -W 'ethers dnsmasq isc kea beowulf csv leases arp json yaml' -- "$cur"); return ;;
        --guest) mapfile -t COMPREPLY < <(compgen -W "$(_muster_guests)" -- "$cur"); __ltrim_colon_completions "$cur"; return ;;
        --mac | --add | --remove) return ;;
    esac
    case "${words[*]}" in
        'node set'*) flags+=' --mac --add --remove --reserve --free --yes --dry-run' ;;
        'node replace'*) flags+=' --mac --guest --yes --dry-run' ;;
        'node out'* | 'guest enlist'* | undo*) flags+=' --yes --dry-run' ;;
        reload*) flags+=' --renumber --yes --dry-run' ;;
        doctor*) flags+=' --passive' ;;
        hosts*) flags+=' --form' ;;
        wait*) flags+=' --state --timeout' ;;
        import*) flags+=' --format --yes --dry-run' ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur")
        return
    fi
    case "${words[*]}" in
        '') mapfile -t COMPREPLY < <(compgen -W 'doctor status node guest find why wait watch reload checkpoint hosts undo import' -- "$cur") ;;
        node) mapfile -t COMPREPLY < <(compgen -W 'list show set replace out' -- "$cur") ;;
        guest) mapfile -t COMPREPLY < <(compgen -W 'list enlist' -- "$cur") ;;
        'node list'* | 'node show' | 'node out'* | wait) mapfile -t COMPREPLY < <(compgen -W '@all @up @booting @stuck @failed @down @reserved @never' -- "$cur") ;;
        'guest enlist') mapfile -t COMPREPLY < <(compgen -W "$(_muster_guests)" -- "$cur"); __ltrim_colon_completions "$cur" ;;
        import*) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    esac
}

# The guests that the daemon knows now; nothing, if it does not answer.
_muster_guests() {
    muster guest list --json 2>/dev/null | sed -n 's/^ *"id": "\(.*\)",$/\1/p'
}

# A MAC has colons, at which bash breaks words.
declare -F __ltrim_colon_completions >/dev/null || __ltrim_colon_completions() {
    local prefix=${1%"${1##*:}"} i
    [[ $1 == *:* && $COMP_WORDBREAKS == *:* ]] || return 0
    for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$prefix"}; done
}

complete -F _muster muster
