use super::*;
use muster::base::addr::Mac;

#[test]
fn requests_stay_below_a_line() {
    let entry = |n: u32| {
        let macs = (0..20).map(|nic| Mac([2, nic, 0, 0, (n >> 8) as u8, n as u8])).collect();
        ImportEntry { number: n, macs, name: "\"".repeat(64) }
    };
    let entries: Vec<ImportEntry> = (0..1000).map(entry).collect();
    let parts = parts(&entries, IMPORT_MAX);
    let mut all = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let mut line = vec![0; LINE_MAX];
        assert!(muster::wire::control::write(&mut line, &Request::Change { change: part.clone(), dry: true }).is_some());
        let Change::Import { entries, more } = part else { panic!() };
        assert!(*more == (at + 1 < parts.len()) && !entries.is_empty() && entries.len() <= IMPORT_MAX);
        all.extend(entries.clone());
    }
    assert!(parts.len() > 4 && all == entries);
}

#[test]
fn names_of_the_heads_own_hosts_file() {
    let names = host_names("127.0.0.1 localhost\n10.54.1.4\talice.x alice # our first\n::1 localhost\n10.54.1.5 alice\n");
    assert_eq!((names.get("alice"), names.len()), (Some(&[10, 54, 1, 4].into()), 2));
}

/// A cluster whose node 0 has this address.
fn plan_at(node0: [u8; 4], nodes: u32, prefix: &str) -> ClusterPlan {
    let segments = vec![muster::wire::control::SegmentRow { first: 0, last: nodes - 1, address: node0.into() }];
    let hosts = [("carol".to_string(), "10.54.1.9".parse().unwrap())].into();
    ClusterPlan { segments, nodes, prefix: prefix.into(), ignore: vec!["3c:ec:ef:99:*".parse().unwrap()], hosts }
}

/// What becomes of one file, in lines: machines, what is left out, what is no node, notes.
fn told(file: &Path, cluster: &ClusterPlan) -> String {
    let (mut sources, _) = source::load(&[file.to_path_buf()]).unwrap();
    sources[0].name = file.file_name().unwrap().to_str().unwrap().to_string();
    let (read, formats) = read(&sources, None);
    if read.is_empty() {
        return format!("error: {}\n", nothing(&sources[0], formats[0]));
    }
    let (plan, remarks) = work_out(&sources, read, cluster, &Ranges::of(0, cluster.nodes - 1));
    let mut told = format!("{}\n", formats[0].unwrap().name());
    for placed in &plan.placed {
        let macs = placed.macs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let lines = placed.places.iter().map(|place| place.line.to_string()).collect::<Vec<_>>().join(",");
        told.push_str(&format!("n{} by {}: {} [{macs}] {lines}\n", placed.number, placed.rule.name(), placed.name));
    }
    for (kind, all) in [("left out", &plan.left_out), ("no node", &plan.no_nodes), ("note", &plan.notes)] {
        all.iter().for_each(|(place, what)| told.push_str(&format!("{kind} {}: {what}\n", place.line)));
    }
    remarks.iter().for_each(|what| told.push_str(&format!("note: {what}\n")));
    told
}

/// Each file of `tests/import` comes out as the text beside it says, which was read by a person. Set MUSTER_IMPORT_WRITE to write them anew.
#[test]
fn what_administrators_have_comes_out_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_none_or(|extension| extension != "want"));
    files.sort();
    assert!(files.len() > 40, "{}", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let plans = [
            ("default", plan_at([10, 54, 1, 0], 1024, "n")),
            ("dnsmasq", plan_at([172, 16, 1, 0], 64, "cn")),
            ("warewulf", plan_at([172, 16, 2, 0], 64, "n")),
        ];
        let fits = match name.get(..2) {
            Some("10") => &plans[..2],
            Some("11") => &plans[1..],
            Some("23") => &[("default", plans[0].1.clone()), ("rocks", plan_at([10, 1, 255, 0], 255, "n"))],
            _ => &plans[..1],
        };
        let got: String = fits.iter().map(|(plan, cluster)| format!("# {plan}\n{}", told(&file, cluster))).collect();
        let want = folder.join(format!("{name}.want"));
        if std::env::var_os("MUSTER_IMPORT_WRITE").is_some() {
            std::fs::write(&want, &got).unwrap();
        }
        let want = std::fs::read_to_string(&want).unwrap_or_default();
        if want != got {
            wrong.push(format!("{name}\n--- want\n{want}--- got\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
