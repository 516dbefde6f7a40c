use super::*;

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes()).expect("long enough")
}

fn hex(bytes: &[u8]) -> String {
    crate::text::encode_hex(bytes)
}

/// Random bytes that never repeat within a test.
fn counter(start: u8) -> impl FnMut(&mut [u8]) {
    let mut next = start;
    move |out| {
        for byte in out {
            *byte = next;
            next = next.wrapping_add(1);
        }
    }
}

fn challenge(algorithm: ChapAlgorithm) -> Challenge {
    Challenge::new(algorithm, &mut counter(1))
}

#[test]
fn responses_are_the_hashes_of_the_standard_input() {
    // Computed with independent tools over 0x01 || "secret-of-12" || 00 01 .. 0f.
    let challenge: Vec<u8> = (0..16).collect();
    for (algorithm, expected) in [
        (ChapAlgorithm::Md5, "0xd07ae8624e1cdbf395f1f5a0747d156b"),
        (ChapAlgorithm::Sha1, "0x6ac87c16aaeb2b33a994cfc7301a0da44f2e202b"),
        (ChapAlgorithm::Sha256, "0xa57d201ac61dc0df7c67881c42f3de18a3083864a12e0425a0e97db301f24f4a"),
        (ChapAlgorithm::Sha3_256, "0xe87edeaece52bcf709a573644fb4e493d32efee136c2d9c0363ce068ee03e5fa"),
    ] {
        let response = respond(algorithm, 1, &secret("secret-of-12"), &challenge);
        assert_eq!(hex(response.as_bytes()), expected, "{algorithm:?}");
        assert_eq!(response.as_bytes().len(), algorithm.hash_bytes());
    }
}

#[test]
fn the_right_answer_passes_and_every_changed_bit_fails() {
    for algorithm in ChapAlgorithm::PREFERENCE {
        let secret = secret("one-way secret");
        let credentials = Some(ChapCredentials { secret: &secret, mutual: None });
        let right = {
            let c = challenge(algorithm);
            respond(algorithm, c.identifier(), &secret, c.as_bytes())
        };
        let check = |bytes: &[u8]| {
            let answer = ChapAnswer { response: &hex(bytes), mutual: None };
            challenge(algorithm).verify(answer, credentials).map(|own| own.is_some())
        };
        assert_eq!(check(right.as_bytes()), Ok(false));
        for bit in 0..right.as_bytes().len() * 8 {
            let mut wrong = right.as_bytes().to_vec();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&wrong), Err(ChapError::WrongResponse));
        }
        // Seventeen bytes for a sixteen-byte hash, and every other length.
        for length in 1..=32 {
            if length != algorithm.hash_bytes() {
                assert_eq!(check(&vec![0; length]), Err(ChapError::BadResponseLength));
            }
        }
        assert_eq!(check(&[0; 33]), Err(ChapError::BadBinary(BinaryError::BadLength)));
    }
}

#[test]
fn an_unknown_user_fails_even_with_the_stand_in_secret() {
    let c = challenge(ChapAlgorithm::Sha256);
    let response = respond(c.algorithm(), c.identifier(), &Secret::stand_in(), c.as_bytes());
    let answer = ChapAnswer { response: &hex(response.as_bytes()), mutual: None };
    assert_eq!(c.verify(answer, None).map(|_| ()), Err(ChapError::WrongResponse));
}

fn mutual(
    identifier: &str,
    challenge_text: &str,
    own_secret: Option<&Secret>,
) -> Result<Option<Vec<u8>>, ChapError> {
    let secret = secret("one-way secret");
    let c = challenge(ChapAlgorithm::Md5);
    let response = hex(respond(c.algorithm(), c.identifier(), &secret, c.as_bytes()).as_bytes());
    let credentials = ChapCredentials { secret: &secret, mutual: own_secret.map(|own| ("vega", own)) };
    let answer = ChapAnswer { response: &response, mutual: Some((identifier, challenge_text)) };
    c.verify(answer, Some(credentials)).map(|own| own.map(|own| own.as_bytes().to_vec()))
}

#[test]
fn mutual_proves_the_other_secret() {
    let own = secret("mutual secret");
    let expected = respond(ChapAlgorithm::Md5, 255, &own, &[7; 16]);
    assert_eq!(mutual("255", &hex(&[7; 16]), Some(&own)), Ok(Some(expected.as_bytes().to_vec())));
    assert!(mutual("0xff", "0bAAAA", Some(&own)).is_ok(), "base64 challenge");
}

#[test]
fn identifier_above_255_is_refused() {
    let own = secret("mutual secret");
    for bad in ["256", "0x100", "-1", "", "65536", "4294967297", "x"] {
        assert_eq!(mutual(bad, "0x01", Some(&own)), Err(ChapError::BadIdentifier), "{bad}");
    }
}

#[test]
fn a_reflected_challenge_is_refused() {
    let own = secret("mutual secret");
    let ours = challenge(ChapAlgorithm::Md5);
    assert_eq!(mutual("1", &hex(ours.as_bytes()), Some(&own)), Err(ChapError::ReflectedChallenge));
}

#[test]
fn equal_secrets_are_refused() {
    let own = secret("one-way secret");
    assert_eq!(mutual("1", "0x01", Some(&own)), Err(ChapError::EqualSecrets));
}

#[test]
fn mutual_without_a_secret_is_refused() {
    assert_eq!(mutual("1", "0x01", None), Err(ChapError::NoMutualSecret));
}

#[test]
fn an_overlong_challenge_is_refused() {
    let own = secret("mutual secret");
    assert!(mutual("1", &hex(&[1; 1024]), Some(&own)).is_ok());
    assert_eq!(mutual("1", &hex(&[1; 1025]), Some(&own)), Err(ChapError::BadBinary(BinaryError::BadLength)));
}

#[test]
fn two_boots_give_different_challenges() {
    let a = Challenge::new(ChapAlgorithm::Md5, &mut counter(1));
    let b = Challenge::new(ChapAlgorithm::Md5, &mut counter(99));
    assert_ne!(a.as_bytes(), b.as_bytes());
    let mut random = counter(1);
    let c = Challenge::new(ChapAlgorithm::Md5, &mut random);
    let d = Challenge::new(ChapAlgorithm::Md5, &mut random);
    assert_ne!(c.as_bytes(), d.as_bytes(), "fresh per attempt");
}

#[test]
fn a_recorded_response_does_not_fit_the_next_challenge() {
    let secret = secret("one-way secret");
    let mut random = counter(1);
    let first = Challenge::new(ChapAlgorithm::Sha256, &mut random);
    let recorded = hex(respond(first.algorithm(), first.identifier(), &secret, first.as_bytes()).as_bytes());
    let second = Challenge::new(ChapAlgorithm::Sha256, &mut random);
    let answer = ChapAnswer { response: &recorded, mutual: None };
    let credentials = ChapCredentials { secret: &secret, mutual: None };
    assert_eq!(second.verify(answer, Some(credentials)).map(|_| ()), Err(ChapError::WrongResponse));
}

/// A byte that counts how often it is compared; in constant time is the only way in which it can be.
struct Counted<'a>(u8, &'a std::cell::Cell<usize>);

impl ConstantTimeEq for Counted<'_> {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.1.set(self.1.get() + 1);
        self.0.ct_eq(&other.0)
    }
}

#[test]
fn a_wrong_answer_is_compared_to_its_end_wherever_it_is_wrong() {
    for algorithm in ChapAlgorithm::PREFERENCE {
        let length = algorithm.hash_bytes();
        let compared = std::cell::Cell::new(0);
        let answer = |wrong: usize| -> Vec<Counted<'_>> {
            (0..length).map(|at| Counted(at as u8 ^ u8::from(at >= wrong), &compared)).collect()
        };
        let expected = answer(length);
        for wrong in 0..=length {
            compared.set(0);
            assert_eq!(bool::from(same(&expected, &answer(wrong))), wrong == length);
            assert_eq!(compared.get(), length, "{algorithm:?}, first wrong byte {wrong}");
        }
    }
}
