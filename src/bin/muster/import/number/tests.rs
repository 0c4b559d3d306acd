use muster::wire::control::SegmentRow;

use super::super::record::ImportedMachine;
use super::super::screen::screen;
use super::*;

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn found(line: usize, name: &str, n: u8, address: Option<[u8; 4]>) -> ImportedMachine {
    let addresses = address.map(Into::into).into_iter().collect();
    ImportedMachine { name: name.into(), macs: vec![mac(n)], addresses, ..ImportedMachine::at(line) }
}

fn cluster() -> ClusterPlan {
    let segments = vec![
        SegmentRow { first: 0, last: 99, address: [10, 54, 1, 0].into() },
        SegmentRow { first: 100, last: 199, address: [10, 55, 1, 0].into() },
    ];
    let hosts = [("alice".to_string(), [10, 54, 1, 8].into())].into();
    ClusterPlan { segments, nodes: 200, prefix: "n".into(), hosts, ..ClusterPlan::default() }
}

fn plan(found: &[ImportedMachine]) -> ImportPlan {
    assign(screen(found.to_vec(), &cluster()), &cluster(), &Ranges::of(3, 199))
}

fn told(found: &[ImportedMachine]) -> Vec<String> {
    let screened = screen(found.to_vec(), &cluster());
    let (machines, family) = (screened.machines.clone(), screened.family.clone());
    remarks(&plan(found).placed, &machines, &cluster(), family.as_deref())
}

fn numbers(plan: &ImportPlan) -> Vec<(u32, Rule, Vec<usize>)> {
    plan.placed.iter().map(|placed| (placed.number, placed.rule, placed.places.iter().map(|place| place.line).collect())).collect()
}

#[test]
fn the_surer_rule_goes_first() {
    let mut index = found(6, "", 6, None);
    index.index = Some(50);
    let plan = plan(&[
        found(1, "bob", 1, None),
        found(2, "n4", 2, None),
        found(3, "whatever", 3, Some([10, 54, 1, 3])),
        found(4, "n3", 4, Some([10, 55, 1, 5])),
        found(5, "", 5, None),
        index,
        found(7, "alice", 7, None),
        found(8, "node-0009", 8, None),
    ]);
    let expected = [
        (3, Rule::Address, vec![3]),
        (4, Rule::Name, vec![2]),
        (5, Rule::Vacant, vec![1]),
        (6, Rule::Vacant, vec![5]),
        (8, Rule::Hosts, vec![7]),
        (9, Rule::Name, vec![8]),
        (50, Rule::Index, vec![6]),
        (105, Rule::Address, vec![4]),
    ];
    assert_eq!(numbers(&plan), expected);
    assert_eq!((plan.notes, plan.left_out), (vec![], vec![]));
}

#[test]
fn one_name_is_one_machine_with_several_cards() {
    let plan = plan(&[found(1, "n7", 1, None), found(2, "n7", 2, None), found(3, "n7", 1, None)]);
    assert_eq!(numbers(&plan), [(7, Rule::Name, vec![1, 2, 3])]);
    assert_eq!(plan.placed[0].macs, [mac(1), mac(2)]);
    assert!(plan.notes[0].0.line == 3 && plan.notes[0].1.contains("is listed already (line 1)"));
}

#[test]
fn conflicts_are_told_by_line() {
    let plan = plan(&[
        found(1, "n5", 1, None),
        found(2, "login5", 2, None),
        found(3, "n9", 1, None),
        found(4, "n500", 4, None),
        found(5, "n99999999999", 5, None),
    ]);
    let mut left: Vec<_> = plan.left_out.clone();
    left.sort();
    assert_eq!(left.iter().map(|(place, _)| place.line).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(left[0].1.contains("login5 would be n5 by its name, but n5 has that number (line 1)"), "{left:?}");
    assert!(left[1].1.contains("would be n9, but is n5 (line 1)"));
    assert!(left[2].1.contains("nodes are n0 to n199"));
    assert_eq!(numbers(&plan), [(3, Rule::Vacant, vec![5]), (5, Rule::Name, vec![1])], "a number that is none is no number");
}

#[test]
fn racks_are_numbered_in_the_order_of_their_names() {
    let racks = [
        found(1, "compute-1-0", 1, None),
        found(2, "compute-0-10", 2, None),
        found(3, "compute-0-9", 3, None),
        found(4, "compute-0-0", 4, None),
        found(5, "login9", 5, None),
    ];
    let plan = plan(&racks);
    let expected = [
        (3, Rule::Order, vec![4]),
        (4, Rule::Order, vec![3]),
        (5, Rule::Order, vec![2]),
        (6, Rule::Order, vec![1]),
        (9, Rule::Name, vec![5]),
    ];
    assert_eq!(numbers(&plan), expected);
    assert!(plan.notes[0].1.contains("end in the same number"), "{:?}", plan.notes);
}

#[test]
fn names_and_addresses_that_disagree_are_told() {
    let shifted: Vec<_> = (1..4).map(|n| found(n, &format!("n{n}"), n as u8, Some([10, 54, 1, 10 + n as u8]))).collect();
    assert_eq!(told(&shifted), ["names say 1 to 3, addresses say 11 to 13: with node0 = \"10.54.1.10\" in [cluster] both are the same"]);
    let falling: Vec<_> = (1..4).map(|n| found(n, &format!("c-0-{n}"), n as u8, Some([10, 54, 1, 90 - n as u8]))).collect();
    assert_eq!(told(&falling), ["addresses fall while names rise: c-0-1 is n89 and c-0-3 is n87"]);
    let odd = [found(1, "n1", 1, Some([10, 54, 1, 1])), found(2, "n2", 2, Some([10, 54, 1, 9])), found(3, "n3", 3, Some([10, 54, 1, 3]))];
    assert_eq!(told(&odd), ["machines whose number is not the one in their name: 1, such as n2 is n9, by its address"]);
    let names = [found(1, "cn01", 1, None), found(2, "cn02", 2, None)];
    assert_eq!(told(&names), ["muster will call cn01 n1: with prefix = \"cn\" and digits = 2 in [cluster] nodes keep their names"]);
    let moved = [found(1, "n1", 1, Some([10, 9, 0, 1])), found(2, "n2", 2, None)];
    assert!(told(&moved)[0].ends_with("1, such as n1: 10.9.0.1 there, 10.54.1.1 here"), "{:?}", told(&moved));
}

#[test]
fn a_full_cluster_leaves_out() {
    let screened = screen(vec![found(1, "x", 1, None), found(2, "y", 2, None)], &cluster());
    let plan = assign(screened, &cluster(), &Ranges::of(8, 8));
    assert_eq!((plan.placed.len(), plan.left_out[0].0.line), (1, 2));
}
