//! What holds for a number, key by key, and which section of the config said so: `muster node show`.

use crate::config::{Config, KeyName, Network, Origin, Override, Setting, SettingValue};
use crate::roll::kind::Arch;
use crate::roll::plan::Number;

use super::{SCRIPT, of, ranked_options, special};

/// The effective settings of a number: its boot program for each architecture that has one, script, kernel, initrd, args, and in the
/// network of its address the lease, routers, name and time servers, domain and the operator's own DHCP options. A script that is made from
/// the others is among them. What nobody set and nothing stands for is left out; a number without a lot has nothing of a network.
pub fn effective(config: &Config, number: Number) -> impl Iterator<Item = Setting<'_>> {
    let programs = Arch::ALL.iter().filter_map(move |arch| program(config, number, *arch));
    let kernel = for_all(config, number, KeyName::Key("kernel"), |section| section.kernel.as_deref(), config.boot.kernel.as_deref());
    let made = kernel.map(|_| Setting { name: KeyName::Key("script"), value: SettingValue::Text(SCRIPT), origin: Origin::Made });
    let script = for_all(config, number, KeyName::Key("script"), |section| section.script.as_deref(), config.boot.script.as_deref());
    let files = [script.or(made), kernel, Some(initrd(config, number)), Some(args(config, number))];
    let at = config.plan.address(number).and_then(|address| config.network_of(address));
    let network = at.and_then(|at| Some((at, config.networks.get(at)?)));
    let lease = network.map(|(at, network)| lease(config, number, at, network));
    let told = network.into_iter().flat_map(move |(at, network)| told(config, at, network));
    let options = network.into_iter().flat_map(move |(at, network)| {
        ranked_options(config, network, Some(number)).map(move |(section, code, bytes)| {
            let origin =
                section.map_or_else(|| config.listing.section("[[network]]", at), |section| config.listing.section("[[for]]", section));
            Setting { name: KeyName::Option(code), value: SettingValue::Option(code, bytes), origin }
        })
    });
    programs.chain(files.into_iter().flatten()).chain(lease).chain(told).chain(options)
}

fn program(config: &Config, number: Number, arch: Arch) -> Option<Setting<'_>> {
    for_all(config, number, KeyName::Program(arch), |section| of(&section.program, arch), of(&config.boot.program, arch))
}

/// A text of the first section that has one, else that of `[boot]`.
fn for_all<'a>(
    config: &'a Config,
    number: Number,
    name: KeyName,
    says: impl Fn(&'a Override) -> Option<&'a str>,
    boot: Option<&'a str>,
) -> Option<Setting<'a>> {
    let (text, origin) = special(config, Some(number), says).or_else(|| Some((boot?, config.listing.boot(name))))?;
    Some(Setting { name, value: SettingValue::Text(text), origin })
}

fn initrd(config: &Config, number: Number) -> Setting<'_> {
    let boot = &config.boot.initrd;
    let origin = if boot.is_empty() { Origin::Default } else { config.listing.boot(KeyName::Key("initrd")) };
    let (files, origin) = special(config, Some(number), |section| section.initrd.as_deref()).unwrap_or((boot, origin));
    Setting { name: KeyName::Key("initrd"), value: SettingValue::Files(files), origin }
}

fn args(config: &Config, number: Number) -> Setting<'_> {
    let boot = config.boot.args.as_str();
    let origin = if boot.is_empty() { Origin::Default } else { config.listing.boot(KeyName::Key("args")) };
    let (args, origin) = special(config, Some(number), |section| section.args.as_deref()).unwrap_or((boot, origin));
    Setting { name: KeyName::Key("args"), value: SettingValue::Text(args), origin }
}

fn lease<'a>(config: &'a Config, number: Number, at: usize, network: &'a Network) -> Setting<'a> {
    let network = (network.lease, config.listing.network(at, "lease"));
    let (lease, origin) = special(config, Some(number), |section| section.lease).unwrap_or(network);
    Setting { name: KeyName::Key("lease"), value: SettingValue::Time(lease), origin }
}

/// What all machines of a network get.
fn told<'a>(config: &'a Config, at: usize, network: &'a Network) -> impl Iterator<Item = Setting<'a>> {
    let setting = move |key, value| Setting { name: KeyName::Key(key), value, origin: config.listing.network(at, key) };
    let lists = [("router", network.routers.as_slice()), ("dns", &network.dns), ("ntp", &network.ntp)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty()).map(move |(key, list)| setting(key, SettingValue::Addresses(list)));
    lists.chain(network.domain.as_deref().map(move |domain| setting("domain", SettingValue::Text(domain))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::Mac;
    use crate::base::facts::LinkFacts;
    use crate::config::{ConfigText, Flags, System, resolve};
    use std::path::Path;

    const CONFIG: &str = r#"[cluster]
node0 = "10.54.1.0"

[[network]]
interface = "eth1"
options = { 66 = "all", 150 = "10.54.0.1" }
router = "10.54.0.254"
dns = ["10.54.0.1", "10.54.0.2"]
domain = "x.example"

[boot]
kernel = "vmlinuz"
args = "quiet"

[[for]]
nodes = "0-31"
args = "storage"
program = { efi-x64 = "grubx64.efi" }
options = { 66 = "storage", 44 = "10.54.0.5" }

[[for]]
nodes = "16-40"
args = "login"
initrd = ["a.img", "b\"1\".img"]
lease = "1d"

[[for]]
nodes = "17,900"
program = { bios = "lpxelinux.0" }
options = { 66 = "one" }
script = "one.ipxe"
"#;

    struct Plain(Vec<LinkFacts>);

    impl System for Plain {
        fn links(&self) -> &[LinkFacts] {
            &self.0
        }

        fn exists(&self, _: &Path, name: &str) -> bool {
            ["snponly.efi", "undionly.kpxe", "vmlinuz", "initrd.img"].contains(&name)
        }
    }

    fn config(text: &str) -> Config {
        let facts = LinkFacts {
            addresses: vec![([10, 54, 0, 1].into(), 16)],
            gateway: Some([10, 54, 0, 253].into()),
            ..LinkFacts::ethernet("eth1", 2, Mac([2, 0, 0, 0, 0, 1]))
        };
        let flags = Flags { interfaces: vec!["eth1".into()], ..Flags::default() };
        let text = (!text.is_empty()).then_some(ConfigText { path: "f", text });
        resolve(text, &flags, &Plain(vec![facts])).unwrap().config
    }

    fn shown(config: &Config, number: u32) -> Vec<String> {
        effective(config, Number(number)).map(|Setting { name, value, origin }| format!("{name} = {value} ({origin})")).collect()
    }

    #[test]
    fn later_sections_win_key_by_key() {
        let config = config(CONFIG);
        let node_17 = [
            "program.bios = \"lpxelinux.0\" ([[for]] line 27)",
            "program.efi-x64 = \"grubx64.efi\" ([[for]] line 15)",
            "script = \"one.ipxe\" ([[for]] line 27)",
            "kernel = \"vmlinuz\" ([boot])",
            "initrd = [\"a.img\", \"b\\\"1\\\".img\"] ([[for]] line 21)",
            "args = \"login\" ([[for]] line 21)",
            "lease = \"1d\" ([[for]] line 21)",
            "router = [\"10.54.0.254\"] ([[network]] line 4)",
            "dns = [\"10.54.0.1\", \"10.54.0.2\"] ([[network]] line 4)",
            "domain = \"x.example\" ([[network]] line 4)",
            "options.66 = \"one\" ([[for]] line 27)",
            "options.44 = \"10.54.0.5\" ([[for]] line 15)",
            "options.150 = \"10.54.0.1\" ([[network]] line 4)",
        ];
        assert_eq!(shown(&config, 17), node_17);
        let node_40 = [
            "program.bios = \"undionly.kpxe\" (found in the root)",
            "program.efi-x64 = \"snponly.efi\" (found in the root)",
            "script = \"muster.ipxe\" (generated from kernel, initrd and args)",
            "kernel = \"vmlinuz\" ([boot])",
            "initrd = [\"a.img\", \"b\\\"1\\\".img\"] ([[for]] line 21)",
            "args = \"login\" ([[for]] line 21)",
            "lease = \"1d\" ([[for]] line 21)",
            "router = [\"10.54.0.254\"] ([[network]] line 4)",
            "dns = [\"10.54.0.1\", \"10.54.0.2\"] ([[network]] line 4)",
            "domain = \"x.example\" ([[network]] line 4)",
            "options.66 = \"all\" ([[network]] line 4)",
            "options.150 = \"10.54.0.1\" ([[network]] line 4)",
        ];
        assert_eq!(shown(&config, 40), node_40);
        let (storage, other) = (shown(&config, 0), shown(&config, 41));
        assert!(storage.contains(&"args = \"storage\" ([[for]] line 15)".to_string()), "{storage:?}");
        assert!(other.contains(&"args = \"quiet\" ([boot])".to_string()), "{other:?}");
        assert!(
            other.contains(&"lease = \"12h\" (default)".to_string()) && other.contains(&"initrd = [] (default)".to_string()),
            "{other:?}"
        );
        let beyond = shown(&config, 5_000);
        assert!(!beyond.iter().any(|line| line.starts_with("lease") || line.starts_with("options")), "{beyond:?}");
    }

    #[test]
    fn leases_say_which_section_has_them() {
        let lease = |text: &str| shown(&config(text), 3).into_iter().find(|line| line.starts_with("lease")).unwrap();
        assert_eq!(lease("[dhcp]\nlease = \"1h\""), "lease = \"1h\" ([dhcp])");
        assert_eq!(lease("[dhcp]\nlease = \"1h\"\n[[network]]\ninterface = \"eth1\""), "lease = \"1h\" ([dhcp])");
        assert_eq!(lease("\n[[network]]\nlease = \"2h\"\ninterface = \"eth1\""), "lease = \"2h\" ([[network]] line 2)");
    }

    #[test]
    fn without_a_file_all_is_found_or_default() {
        let told = [
            "program.bios = \"undionly.kpxe\" (found in the root)",
            "program.efi-x64 = \"snponly.efi\" (found in the root)",
            "script = \"muster.ipxe\" (generated from kernel, initrd and args)",
            "kernel = \"vmlinuz\" (found in the root)",
            "initrd = [\"initrd.img\"] (found in the root)",
            "args = \"\" (default)",
            "lease = \"12h\" (default)",
            "router = [\"10.54.0.253\"] (default)",
        ];
        assert_eq!(shown(&config(""), 3), told);
    }
}
