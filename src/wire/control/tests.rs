use super::*;

fn request(text: &str) -> Result<Request, String> {
    read(text.as_bytes()).map_err(|rejection| rejection.to_string())
}

#[test]
fn requests_as_people_type_them() {
    let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    for (text, expected) in [
        (r#"{"do":"status"}"#, Request::Status),
        (r#" {"do": "states"} "#, Request::States { from: 0 }),
        (r#"{"do":"node-list","nodes":"@up","limit":3}"#, Request::NodeList { nodes: Some("@up".into()), from: 0, limit: Some(3) }),
        (r#"{"do":"node-show","number":17}"#, Request::NodeShow { number: 17 }),
        (r#"{"do":"guest-list","from":9}"#, Request::GuestList { from: 9, limit: None }),
        (
            r#"{"do":"change","dry":true,"change":{"what":"replace","number":23,"by":{"mac":"52:54:00:12:34:56"}}}"#,
            Request::Change { change: Change::Replace { number: 23, by: Some(Replacement::Mac(mac)) }, dry: true },
        ),
        (r#"{"do":"change","change":{"what":"undo"}}"#, Request::Change { change: Change::Undo, dry: false }),
        (
            r#"{"do":"change","change":{"what":"set","number":1,"add":["52:54:00:12:34:56"]}}"#,
            Request::Change { change: Change::Set { number: 1, macs: None, add: vec![mac], remove: vec![], reserve: None }, dry: false },
        ),
    ] {
        assert_eq!(request(text).as_ref(), Ok(&expected), "{text}");
        let mut buf = [0; 400];
        let len = write(&mut buf, &expected).unwrap();
        assert_eq!(read(&buf[..len]), Ok(expected), "{text}");
    }
}

#[test]
fn wrong_requests_are_told() {
    for (text, words) in [
        ("", "EOF"),
        ("status", "not a request"),
        (r#"{"do":"dance"}"#, "dance"),
        (r#"{"do":"node-show"}"#, "number"),
        (r#"{"do":"states","form":1}"#, "form"),
        (r#"{"do":"change","change":{"what":"set","number":1,"macs":["12"]}}"#, "not a MAC"),
        ("{\"do\":\"status\"}{", "trailing"),
        ("\u{ff}", "not a request"),
    ] {
        let why = request(text).unwrap_err();
        assert!(why.contains(words), "{text}: {why}");
    }
}

#[test]
fn replies_and_back() {
    let lot = LotDetail { kind: LotKind::Occupied, macs: vec![Mac([2, 0, 0, 0, 0, 1])], facts: vec![("uuid".into(), "0".into())] };
    let change = LotChange { number: 3, before: LotDetail::default(), after: lot };
    let event =
        WatchEvent { time: 1, number: None, id: "x".to_string(), address: None, stage: "up".into(), text: "\"".into(), trouble: false };
    for reply in [
        Reply::Watching,
        Reply::Lost { count: 7 },
        Reply::Event(event),
        Reply::Changed(Changed { dry: true, count: 1, nodes: "3".into(), lots: vec![change], notes: vec![] }),
        Reply::Error(Rejection::new("no", "")),
        Reply::States(States { runs: vec![StateRun { state: NodeState::Up, first: 0, last: 3 }], next: Some(4) }),
    ] {
        let mut buf = [0; 400];
        let len = write(&mut buf, &reply).unwrap();
        assert_eq!(buf[..len].iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<Reply>(&buf[..len]).unwrap(), reply);
        assert_eq!(write(&mut buf[..len - 1], &reply), None, "the newline does not fit");
    }
}

#[test]
fn states_are_told_by_their_names() {
    for state in NodeState::ALL {
        assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", state.name()));
    }
}
