use super::*;

fn negotiator() -> Negotiator {
    with(DigestPolicy::Any, SessionType::Normal, true)
}

fn with(digest: DigestPolicy, session_type: SessionType, leading: bool) -> Negotiator {
    Negotiator::new(Offers::default(), digest, digest, session_type, leading)
}

/// Offers the pairs as one text; gives the reply.
fn text(negotiator: &mut Negotiator, pairs: &[(&str, &str)]) -> Result<String, ParamError> {
    let mut out = TextWriter::new();
    for (key, value) in pairs {
        negotiator.offer(Stage::Operational, key, value, &mut out)?;
    }
    negotiator.finish_text(&mut out)?;
    Ok(String::from_utf8(out.into_bytes()).expect("we write UTF-8").replace('\0', ";"))
}

/// The reply to one key on a fresh connection.
fn one(key: &str, value: &str) -> String {
    text(&mut negotiator(), &[(key, value)]).expect("no protocol error")
}

#[test]
fn result_functions_of_every_numeric_key() {
    for (key, value, answer) in [
        ("MaxConnections", "1", "1"),
        ("MaxConnections", "9", "8"),
        ("MaxConnections", "65535", "8"),
        ("MaxConnections", "0", "Reject"),
        ("MaxConnections", "65536", "Reject"),
        ("MaxOutstandingR2T", "1", "1"),
        ("MaxOutstandingR2T", "65535", "16"),
        ("MaxOutstandingR2T", "0", "Reject"),
        ("MaxBurstLength", "512", "512"),
        ("MaxBurstLength", "511", "Reject"),
        ("MaxBurstLength", "16777215", "1048576"),
        ("MaxBurstLength", "16777216", "Reject"),
        ("MaxBurstLength", "0x10000", "65536"),
        ("FirstBurstLength", "65536", "65536"),
        ("FirstBurstLength", "16777215", "262144"),
        ("FirstBurstLength", "0", "Reject"),
        ("DefaultTime2Wait", "0", "0"),
        ("DefaultTime2Wait", "3600", "3600"),
        ("DefaultTime2Wait", "3601", "Reject"),
        ("DefaultTime2Retain", "3600", "0"),
        ("DefaultTime2Retain", "x", "Reject"),
        ("ErrorRecoveryLevel", "2", "0"),
        ("ErrorRecoveryLevel", "3", "Reject"),
        ("iSCSIProtocolLevel", "2", "1"),
        ("iSCSIProtocolLevel", "0", "0"),
        ("iSCSIProtocolLevel", "32", "Reject"),
    ] {
        assert_eq!(one(key, value), format!("{key}={answer};"), "{key}={value}");
    }
}

#[test]
fn result_functions_of_every_boolean_key() {
    for (key, value, answer) in [
        ("InitialR2T", "Yes", "Yes"),
        ("InitialR2T", "No", "No"),
        ("ImmediateData", "Yes", "Yes"),
        ("ImmediateData", "No", "No"),
        ("DataPDUInOrder", "No", "Yes"),
        ("DataSequenceInOrder", "No", "Yes"),
        ("InitialR2T", "yes", "Reject"),
        ("ImmediateData", "", "Reject"),
    ] {
        assert_eq!(one(key, value), format!("{key}={answer};"));
    }
}

#[test]
fn booleans_follow_our_side_where_it_insists() {
    let offers = Offers { initial_r2t: true, immediate_data: false, ..Offers::default() };
    let any = DigestPolicy::Any;
    let mut negotiator = Negotiator::new(offers, any, any, SessionType::Normal, true);
    assert_eq!(
        text(&mut negotiator, &[("InitialR2T", "No"), ("ImmediateData", "Yes")]),
        Ok("InitialR2T=Yes;ImmediateData=No;".into())
    );
    assert!(negotiator.values().initial_r2t && !negotiator.values().immediate_data);
}

#[test]
fn digests_follow_the_initiators_order_within_the_policy() {
    let answer = |policy, value| {
        let mut negotiator = with(policy, SessionType::Normal, true);
        let reply = text(&mut negotiator, &[("HeaderDigest", value)]).expect("no protocol error");
        (reply.replace("HeaderDigest=", ""), negotiator.values().header_digest.is_on())
    };
    let yes = |word: &str| (format!("{word};"), true);
    let no = |word: &str| (format!("{word};"), false);
    assert_eq!(answer(DigestPolicy::Any, "CRC32C,None"), yes("CRC32C"));
    assert_eq!(answer(DigestPolicy::Any, "None,CRC32C"), no("None"));
    assert_eq!(answer(DigestPolicy::Any, "X-md4,CRC32C"), yes("CRC32C"));
    assert_eq!(answer(DigestPolicy::Any, "X-md4"), no("Reject"));
    assert_eq!(answer(DigestPolicy::Require, "None,CRC32C"), yes("CRC32C"));
    assert_eq!(answer(DigestPolicy::Require, "None"), no("Reject"));
    assert_eq!(answer(DigestPolicy::Refuse, "CRC32C,None"), no("None"));
    assert_eq!(answer(DigestPolicy::Refuse, "CRC32C"), no("Reject"));
    let many = format!("{}CRC32C", "X-a,".repeat(16));
    assert_eq!(answer(DigestPolicy::Any, &many), no("Reject"), "a list is read to a bound");
}

#[test]
fn a_required_digest_that_was_not_agreed_ends_the_login() {
    let mut negotiator = with(DigestPolicy::Require, SessionType::Normal, true);
    assert_eq!(negotiator.check_complete(), Err(ParamError::DigestRequired));
    let both = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")];
    text(&mut negotiator, &both[..1]).expect("no protocol error");
    assert_eq!(negotiator.check_complete(), Err(ParamError::DigestRequired));
    text(&mut negotiator, &both[1..]).expect("no protocol error");
    assert_eq!(negotiator.check_complete(), Ok(()));
}

#[test]
fn first_burst_never_exceeds_max_burst() {
    // In either order within one text.
    for pairs in [
        [("MaxBurstLength", "8192"), ("FirstBurstLength", "65536")],
        [("FirstBurstLength", "65536"), ("MaxBurstLength", "8192")],
    ] {
        let mut negotiator = negotiator();
        assert_eq!(text(&mut negotiator, &pairs), Ok("MaxBurstLength=8192;FirstBurstLength=8192;".into()));
    }
    // Defaults shrink silently, agreed values do not.
    let mut negotiator = negotiator();
    text(&mut negotiator, &[("MaxBurstLength", "8192")]).expect("no protocol error");
    assert_eq!(negotiator.values().first_burst_length, 8192);
    let mut negotiator = super::tests::negotiator();
    text(&mut negotiator, &[("FirstBurstLength", "65536")]).expect("no protocol error");
    assert_eq!(text(&mut negotiator, &[("MaxBurstLength", "8192")]), Err(ParamError::BurstOrder));
}

#[test]
fn declarations_need_no_answer_and_bad_ones_end_the_login() {
    let mut negotiator = negotiator();
    assert_eq!(text(&mut negotiator, &[("MaxRecvDataSegmentLength", "262144")]), Ok("".into()));
    assert_eq!(negotiator.values().their_max_recv_data_segment_length, 262_144);
    assert_eq!(negotiator.values().our_max_recv_data_segment_length, 8192, "not declared yet");
    for bad in ["0", "511", "16777216", "4294967296", "-1", "", "Reject"] {
        let pairs = [("MaxRecvDataSegmentLength", bad)];
        assert_eq!(text(&mut super::tests::negotiator(), &pairs), Err(ParamError::BadDeclaration));
    }
}

#[test]
fn we_declare_what_we_take() {
    let mut negotiator = negotiator();
    let mut out = TextWriter::new();
    negotiator.declare(&mut out);
    assert_eq!(out.as_bytes(), b"MaxRecvDataSegmentLength=262144\0");
    assert_eq!(negotiator.values().our_max_recv_data_segment_length, 262_144);
}

#[test]
fn a_key_comes_once() {
    for (key, value) in [
        ("HeaderDigest", "None"),
        ("MaxConnections", "1"),
        ("MaxRecvDataSegmentLength", "512"),
        ("MaxBurstLength", "bad"),
        ("IFMarker", "No"),
    ] {
        let mut negotiator = negotiator();
        text(&mut negotiator, &[(key, value)]).expect("the first is fine");
        assert_eq!(text(&mut negotiator, &[(key, value)]), Err(ParamError::Repeated), "{key}");
        assert_eq!(
            text(&mut super::tests::negotiator(), &[(key, value), (key, value)]),
            Err(ParamError::Repeated)
        );
    }
}

#[test]
fn unknown_keys_are_not_understood() {
    assert_eq!(one("X-com.example.key", "1"), "X-com.example.key=NotUnderstood;");
    assert_eq!(one("maxconnections", "1"), "maxconnections=NotUnderstood;", "case counts");
    assert_eq!(one("RDMAExtensions", "Yes"), "RDMAExtensions=NotUnderstood;");
}

#[test]
fn obsolete_marker_keys_are_never_not_understood() {
    assert_eq!(one("IFMarker", "No"), "IFMarker=No;");
    assert_eq!(one("OFMarker", "Yes"), "OFMarker=No;");
    assert_eq!(one("OFMarker", "x"), "OFMarker=Reject;");
    assert_eq!(one("IFMarkInt", "2048~4096"), "IFMarkInt=Reject;");
    assert_eq!(one("OFMarkInt", "1"), "OFMarkInt=Reject;");
}

#[test]
fn task_reporting_and_send_targets() {
    assert_eq!(one("TaskReporting", "FastAbort,RFC3720"), "TaskReporting=RFC3720;");
    assert_eq!(one("TaskReporting", "FastAbort"), "TaskReporting=Reject;");
    assert_eq!(one("SendTargets", "All"), "SendTargets=Reject;");
    assert_eq!(one("X#NodeArchitecture", "a,b"), "");
}

#[test]
fn keys_of_the_target_are_refused() {
    for key in ["TargetAlias", "TargetAddress", "TargetPortalGroupTag"] {
        assert_eq!(text(&mut negotiator(), &[(key, "1")]), Err(ParamError::NotAllowed));
    }
}

#[test]
fn operational_keys_wait_for_the_operational_stage() {
    let mut negotiator = negotiator();
    let mut out = TextWriter::new();
    negotiator.offer(Stage::Security, "MaxBurstLength", "512", &mut out).expect("no protocol error");
    assert_eq!(out.as_bytes(), b"MaxBurstLength=Reject\0");
    assert_eq!(negotiator.values().max_burst_length, 262_144);
    assert_eq!(text(&mut negotiator, &[("MaxBurstLength", "512")]), Ok("MaxBurstLength=512;".into()));
}

const SESSION_WIDE: [(&str, &str); 8] = [
    ("MaxConnections", "4"),
    ("InitialR2T", "No"),
    ("ImmediateData", "No"),
    ("MaxBurstLength", "512"),
    ("FirstBurstLength", "512"),
    ("MaxOutstandingR2T", "4"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
];
const LEADING_ONLY: [(&str, &str); 5] = [
    ("DefaultTime2Wait", "7"),
    ("DefaultTime2Retain", "7"),
    ("ErrorRecoveryLevel", "0"),
    ("iSCSIProtocolLevel", "1"),
    ("TaskReporting", "RFC3720"),
];

#[test]
fn session_keys_are_irrelevant_in_discovery() {
    for pair in SESSION_WIDE {
        let mut negotiator = with(DigestPolicy::Any, SessionType::Discovery, true);
        assert_eq!(text(&mut negotiator, &[pair]), Ok(format!("{}=Irrelevant;", pair.0)));
        assert_eq!(negotiator.values(), &Negotiated::default());
    }
    let mut negotiator = with(DigestPolicy::Any, SessionType::Discovery, true);
    assert_eq!(text(&mut negotiator, &LEADING_ONLY[..1]), Ok("DefaultTime2Wait=7;".into()));
}

#[test]
fn session_keys_are_irrelevant_on_a_connection_that_joins() {
    for pair in SESSION_WIDE.into_iter().chain(LEADING_ONLY) {
        let mut negotiator = with(DigestPolicy::Any, SessionType::Normal, false);
        assert_eq!(text(&mut negotiator, &[pair]), Ok(format!("{}=Irrelevant;", pair.0)));
        assert_eq!(negotiator.values(), &Negotiated::default());
    }
    let mut negotiator = with(DigestPolicy::Any, SessionType::Normal, false);
    assert_eq!(
        text(&mut negotiator, &[("HeaderDigest", "CRC32C")]),
        Ok("HeaderDigest=CRC32C;".into()),
        "digests belong to the connection"
    );
}

#[test]
fn a_whole_offer_of_a_common_initiator() {
    let mut negotiator = negotiator();
    let reply = text(
        &mut negotiator,
        &[
            ("HeaderDigest", "None,CRC32C"),
            ("DataDigest", "None"),
            ("DefaultTime2Wait", "2"),
            ("DefaultTime2Retain", "0"),
            ("IFMarker", "No"),
            ("OFMarker", "No"),
            ("ErrorRecoveryLevel", "0"),
            ("InitialR2T", "No"),
            ("ImmediateData", "Yes"),
            ("MaxBurstLength", "16776192"),
            ("FirstBurstLength", "262144"),
            ("MaxOutstandingR2T", "1"),
            ("MaxConnections", "1"),
            ("DataPDUInOrder", "Yes"),
            ("DataSequenceInOrder", "Yes"),
            ("MaxRecvDataSegmentLength", "262144"),
        ],
    )
    .expect("no protocol error");
    assert!(!reply.contains("Reject") && !reply.contains("NotUnderstood"), "{reply}");
    let values = negotiator.values();
    assert_eq!((values.max_burst_length, values.first_burst_length), (1_048_576, 262_144));
    assert_eq!((values.default_time2wait_s, values.default_time2retain_s), (2, 0));
    assert!(!values.initial_r2t && values.immediate_data);
}
