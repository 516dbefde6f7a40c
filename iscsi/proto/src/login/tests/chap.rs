//! CHAP through whole logins. Whatever fails is status 0201, and no session is established.

use super::*;
use crate::chap::{ChapAlgorithm, ChapError, respond};
use crate::text::{BinaryError, decode_binary, encode_hex};

const ONE_WAY: &str = "one-way secret";
const MUTUAL: &str = "the mutual secret";

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes()).expect("long enough")
}

fn client() -> Client {
    let mut policy = Policy::new(AuthPolicy::chap());
    policy.user = Some(("alice".into(), secret(ONE_WAY)));
    policy.mutual = Some(("vega".into(), secret(MUTUAL)));
    Client::new(policy)
}

/// The challenge as the initiator sees it.
struct Seen {
    algorithm: ChapAlgorithm,
    identifier: u8,
    challenge: Vec<u8>,
}

impl Seen {
    fn response(&self, text: &str) -> String {
        let response = respond(self.algorithm, self.identifier, &secret(text), &self.challenge);
        encode_hex(response.as_bytes())
    }
}

/// Up to the challenge.
fn challenged(client: &mut Client, algorithms: &str) -> Seen {
    let response = client.turn(SECURITY_TO_OPERATIONAL, &format!("{NAMES}AuthMethod=CHAP;"));
    assert_eq!(response.header.flags, 0, "no transit before the proof");
    assert_eq!(response.value("AuthMethod").as_deref(), Some("CHAP"));
    let response = client.turn(SECURITY, &format!("CHAP_A={algorithms};"));
    let number = response.value("CHAP_A").expect("an algorithm");
    let algorithm = ChapAlgorithm::PREFERENCE
        .into_iter()
        .find(|algorithm| algorithm.number().to_string() == number)
        .expect("one of the four");
    Seen {
        algorithm,
        identifier: response.value("CHAP_I").expect("an identifier").parse().expect("a byte"),
        challenge: decode_binary(&response.value("CHAP_C").expect("a challenge"), 32).expect("well-formed"),
    }
}

fn refuse(client: &mut Client, text: &str, error: LoginError) {
    client.refused(SECURITY_TO_OPERATIONAL, text, error);
    assert_eq!(error.status(), Some(LoginStatus::AUTHENTICATION_FAILURE));
    assert!(client.policy.established.is_empty());
}

#[test]
fn one_way_with_each_algorithm() {
    for (offer, expected) in [
        ("5", ChapAlgorithm::Md5),
        ("6", ChapAlgorithm::Sha1),
        ("7", ChapAlgorithm::Sha256),
        ("8", ChapAlgorithm::Sha3_256),
        ("5,6,7,8", ChapAlgorithm::Sha3_256),
        ("99,0x5,7", ChapAlgorithm::Sha256),
    ] {
        let mut client = client();
        let seen = challenged(&mut client, offer);
        assert_eq!(seen.algorithm, expected);
        let proof = format!("CHAP_N=alice;CHAP_R={};", seen.response(ONE_WAY));
        let response = client.turn(SECURITY_TO_OPERATIONAL, &proof);
        assert_eq!((response.header.flags, response.text.as_str()), (0x81, ""));
        let done = done(client.ask(OPERATIONAL_TO_FULL, "").0);
        assert_eq!(done.chap_user.as_deref(), Some("alice"));
    }
}

#[test]
fn mutual_proves_us_too() {
    let mut client = client();
    let seen = challenged(&mut client, "7");
    let proof = format!("CHAP_N=alice;CHAP_R={};CHAP_I=200;CHAP_C=0bAQIDBAUGBwg=;", seen.response(ONE_WAY));
    let (outcome, response) = client.ask(SECURITY_TO_FULL, &proof);
    done(outcome);
    assert_eq!(response.value("CHAP_N").as_deref(), Some("vega"));
    let expected = respond(seen.algorithm, 200, &secret(MUTUAL), &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(response.value("CHAP_R"), Some(encode_hex(expected.as_bytes())));
}

#[test]
fn wrong_secret_wrong_name_empty_name() {
    for (user, text) in [("alice", "not the secret"), ("bob", ONE_WAY), ("", ONE_WAY)] {
        let mut client = client();
        let seen = challenged(&mut client, "5");
        let proof = format!("CHAP_N={user};CHAP_R={};", seen.response(text));
        refuse(&mut client, &proof, ChapError::WrongResponse.into());
    }
}

/// Not 0201: an initiator takes that as final, and this answer is right.
#[test]
fn in_a_pause_no_answer_is_looked_at_and_the_initiator_is_told_to_come_again() {
    for text in [ONE_WAY, "not the secret"] {
        let mut client = client();
        let seen = challenged(&mut client, "7");
        client.policy.paused = true;
        let proof = format!("CHAP_N=alice;CHAP_R={};", seen.response(text));
        client.refused(SECURITY_TO_OPERATIONAL, &proof, LoginError::TooManyFailures);
        assert_eq!(LoginError::TooManyFailures.status(), Some(LoginStatus::SERVICE_UNAVAILABLE));
        assert!(client.policy.established.is_empty());
    }
}

#[test]
fn empty_and_malformed_responses() {
    for (response, error) in [
        ("", ChapError::BadBinary(BinaryError::NoPrefix)),
        ("0x", ChapError::BadBinary(BinaryError::BadLength)),
        ("0x0", ChapError::BadBinary(BinaryError::BadLength)),
        ("0xzz", ChapError::BadBinary(BinaryError::BadDigit)),
        ("12345", ChapError::BadBinary(BinaryError::NoPrefix)),
        ("0x00", ChapError::BadResponseLength),
    ] {
        let mut client = client();
        challenged(&mut client, "5");
        refuse(&mut client, &format!("CHAP_N=alice;CHAP_R={response};"), error.into());
    }
}

#[test]
fn a_response_of_seventeen_to_a_thousand_bytes_is_refused() {
    for length in [17, 31, 33, 1024] {
        let mut client = client();
        challenged(&mut client, "5");
        let error = match length {
            33.. => ChapError::BadBinary(BinaryError::BadLength),
            _ => ChapError::BadResponseLength,
        };
        let proof = format!("CHAP_N=alice;CHAP_R=0x{};", "41".repeat(length));
        refuse(&mut client, &proof, error.into());
    }
}

#[test]
fn a_response_that_does_not_fit_a_value_is_a_text_error() {
    let mut client = client();
    challenged(&mut client, "5");
    let proof = format!("CHAP_N=alice;CHAP_R=0x{};", "4".repeat(2049));
    client.refused(SECURITY, &proof, TextError::ValueTooLong.into());
}

use crate::text::TextError;

#[test]
fn missing_keys() {
    for proof in ["", "CHAP_N=alice;", "CHAP_R=0x00;", "CHAP_I=1;CHAP_C=0x01;"] {
        let mut client = client();
        challenged(&mut client, "5");
        refuse(&mut client, proof, LoginError::MissingChapKey);
    }
    for half in ["CHAP_I=1;", "CHAP_C=0x01;"] {
        let mut client = client();
        let seen = challenged(&mut client, "5");
        let proof = format!("CHAP_N=alice;CHAP_R={};{half}", seen.response(ONE_WAY));
        refuse(&mut client, &proof, LoginError::MissingChapKey);
    }
    let mut client = client();
    client.turn(SECURITY, &format!("{NAMES}AuthMethod=CHAP;"));
    refuse(&mut client, "", LoginError::MissingChapKey);
}

#[test]
fn method_none_when_authentication_is_required() {
    for methods in ["None", "KRB5,None", "", "chap", "X-other"] {
        let mut client = client();
        let text = format!("{NAMES}AuthMethod={methods};");
        refuse(&mut client, &text, LoginError::NoAuthMethod);
    }
    // With both offered the required one is taken, wherever it stands.
    let mut client = client();
    let response = client.turn(SECURITY, &format!("{NAMES}AuthMethod=None,CHAP;"));
    assert_eq!(response.value("AuthMethod").as_deref(), Some("CHAP"));
}

#[test]
fn skipping_the_security_stage() {
    let mut client = client();
    client.refused(OPERATIONAL_TO_FULL, NAMES, LoginError::NoAuthMethod);
    let mut client = self::client();
    client.refused(OPERATIONAL, NAMES, LoginError::NoAuthMethod);
    // Leaving it without naming a method.
    let mut client = self::client();
    refuse(&mut client, NAMES, LoginError::NoAuthMethod);
    let mut client = self::client();
    client.refused(SECURITY_TO_FULL, NAMES, LoginError::NoAuthMethod);
}

#[test]
fn leaving_the_stage_in_the_middle_of_chap() {
    let mut client = client();
    client.turn(SECURITY, &format!("{NAMES}AuthMethod=CHAP;"));
    client.turn(SECURITY_TO_FULL, "CHAP_A=5;");
    assert!(client.policy.established.is_empty(), "T is not granted before the proof");
    // Changing the stage without being granted it.
    client.refused(OPERATIONAL_TO_FULL, "", LoginError::BadStage);
    assert!(client.policy.established.is_empty());
}

#[test]
fn algorithm_downgrade() {
    let mut policy =
        Policy::new(AuthPolicy { chap_algorithms: vec![ChapAlgorithm::Sha256], ..AuthPolicy::chap() });
    policy.user = Some(("alice".into(), secret(ONE_WAY)));
    let mut client = Client::new(policy);
    client.turn(SECURITY, &format!("{NAMES}AuthMethod=CHAP;"));
    refuse(&mut client, "CHAP_A=5,6;", LoginError::NoChapAlgorithm);
    for list in ["", "0", "4294967301", "261", "5 ", "-5"] {
        let mut client = self::client();
        client.turn(SECURITY, &format!("{NAMES}AuthMethod=CHAP;"));
        refuse(&mut client, &format!("CHAP_A={list};"), LoginError::NoChapAlgorithm);
    }
}

#[test]
fn an_identifier_above_255() {
    let mut client = client();
    let seen = challenged(&mut client, "5");
    let proof = format!("CHAP_N=alice;CHAP_R={};CHAP_I=256;CHAP_C=0x01;", seen.response(ONE_WAY));
    refuse(&mut client, &proof, ChapError::BadIdentifier.into());
}

#[test]
fn our_challenge_reflected() {
    let mut client = client();
    let seen = challenged(&mut client, "5");
    let proof = format!(
        "CHAP_N=alice;CHAP_R={};CHAP_I={};CHAP_C={};",
        seen.response(ONE_WAY),
        seen.identifier,
        encode_hex(&seen.challenge)
    );
    refuse(&mut client, &proof, ChapError::ReflectedChallenge.into());
}

#[test]
fn one_secret_for_both_directions() {
    let mut client = client();
    client.policy.mutual = Some(("vega".into(), secret(ONE_WAY)));
    let seen = challenged(&mut client, "5");
    let proof = format!("CHAP_N=alice;CHAP_R={};CHAP_I=1;CHAP_C=0x01;", seen.response(ONE_WAY));
    refuse(&mut client, &proof, ChapError::EqualSecrets.into());
}

#[test]
fn mutual_asked_for_where_none_is_set_up_and_the_reverse() {
    let mut client = client();
    client.policy.mutual = None;
    let seen = challenged(&mut client, "5");
    let proof = format!("CHAP_N=alice;CHAP_R={};CHAP_I=1;CHAP_C=0x01;", seen.response(ONE_WAY));
    refuse(&mut client, &proof, ChapError::NoMutualSecret.into());

    let mut client = self::client();
    client.policy.admission =
        Admission::Admit(Access::new(AuthPolicy { mutual_required: true, ..AuthPolicy::chap() }, 1));
    let seen = challenged(&mut client, "5");
    let proof = format!("CHAP_N=alice;CHAP_R={};", seen.response(ONE_WAY));
    refuse(&mut client, &proof, ChapError::MutualRequired.into());
}

#[test]
fn a_recorded_exchange_replayed_on_a_new_connection() {
    let mut first = client();
    let seen = challenged(&mut first, "5");
    let proof = format!("CHAP_N=alice;CHAP_R={};", seen.response(ONE_WAY));
    first.turn(SECURITY_TO_OPERATIONAL, &proof);
    let mut second = client();
    second.next_random = 100;
    let fresh = challenged(&mut second, "5");
    assert_ne!(fresh.challenge, seen.challenge);
    refuse(&mut second, &proof, ChapError::WrongResponse.into());
}

#[test]
fn a_failed_attempt_cannot_be_repeated_on_the_connection() {
    let mut client = client();
    let seen = challenged(&mut client, "5");
    refuse(&mut client, "CHAP_N=alice;CHAP_R=0x00;", ChapError::BadResponseLength.into());
    let proof = format!("CHAP_N=alice;CHAP_R={};", seen.response(ONE_WAY));
    let progress = client.handle(&request(SECURITY, &proof));
    assert_eq!(progress.consumed, 0);
    assert_eq!(progress.outcome, LoginOutcome::Failed(ChapError::BadResponseLength.into()));
    assert!(client.login.tx().is_empty());
}

#[test]
fn chap_keys_out_of_order() {
    for text in [
        format!("{NAMES}CHAP_A=5;"),
        format!("{NAMES}AuthMethod=CHAP;CHAP_A=5;"),
        format!("{NAMES}CHAP_N=alice;CHAP_R=0x00;"),
        format!("{NAMES}AuthMethod=CHAP;AuthMethod=CHAP;"),
    ] {
        let mut client = client();
        refuse(&mut client, &text, LoginError::UnexpectedSecurityKey);
    }
    for text in ["AuthMethod=CHAP;", "CHAP_A=5;CHAP_N=alice;", "CHAP_N=alice;CHAP_R=0x00;"] {
        let mut client = client();
        client.turn(SECURITY, &format!("{NAMES}AuthMethod=CHAP;"));
        refuse(&mut client, text, LoginError::UnexpectedSecurityKey);
    }
    let mut client = Client::new(Policy::open());
    client.refused(OPERATIONAL, &format!("{NAMES}CHAP_A=5;"), LoginError::UnexpectedSecurityKey);
}

#[test]
fn every_segmentation_of_a_chap_login() {
    // The challenge is known in advance here, so the whole exchange is one byte string.
    let seen = challenged(&mut client(), "7");
    let bytes = [
        request(SECURITY_TO_OPERATIONAL, &format!("{NAMES}AuthMethod=CHAP;")),
        request(SECURITY, "CHAP_A=7;"),
        request(
            SECURITY_TO_OPERATIONAL,
            &format!("CHAP_N=alice;CHAP_R={};CHAP_I=9;CHAP_C=0x0102;", seen.response(ONE_WAY)),
        ),
        request(OPERATIONAL_TO_FULL, "MaxConnections=2;"),
    ]
    .concat();
    for cut in 0..bytes.len() {
        let mut client = client();
        assert_eq!(client.handle(&bytes[..cut]).outcome, LoginOutcome::NeedMore);
        let done = done(client.handle(&bytes[cut..]).outcome);
        assert_eq!(done.chap_user.as_deref(), Some("alice"));
        assert_eq!(client.responses().len(), 4);
    }
}
