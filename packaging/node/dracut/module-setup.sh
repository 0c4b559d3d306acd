#!/bin/bash
# dracut module: muster-in, the node's test and the drivers of network cards. It is run if rd.muster is on the kernel's command line.

check() {
    require_binaries muster-in
}

depends() {
    echo base
}

# The drivers of all cards, as the image is for other machines than this one; not by kernel-network-modules, which a package of its own
# brings on most distributions. And packets of one's own making: a module in some kernels.
installkernel() {
    # shellcheck disable=SC2034 # instmods reads it
    local hostonly=
    instmods '=drivers/net/ethernet' '=drivers/net/phy' virtio_net vmxnet3 hv_netvsc xen-netfront bonding 8021q af_packet
}

install() {
    local test
    inst_binary muster-in
    for test in /etc/muster/test.d/*; do
        if [[ -f $test && -x $test ]]; then inst_multiple "$test"; fi
    done
    # shellcheck disable=SC2154 # dracut sets moddir
    inst_hook cmdline 90 "$moddir/wait.sh"
    inst_hook initqueue/settled 90 "$moddir/run.sh"
    inst_hook pre-pivot 90 "$moddir/names.sh"
}
