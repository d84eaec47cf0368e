use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn grant() -> Grant {
    Grant {
        user: UserId::new("alice").unwrap(),
        name: Some("Alice A.".to_owned()),
        audience: Some("calls".to_owned()),
        issued_at: NOW,
        ttl: Duration::from_secs(3_600),
        room: None,
    }
}

fn hs(id: Option<&str>) -> (SigningKey, VerifyingKey) {
    let id = id.map(str::to_owned);
    (SigningKey::hs256(id.clone(), SECRET).unwrap(), VerifyingKey::hs256(id, SECRET).unwrap())
}

fn verifier(keys: Vec<VerifyingKey>) -> Verifier {
    Verifier::new(keys, Some("calls".to_owned()), Duration::from_secs(5))
}

fn refusal(verifier: &Verifier, now: u64, token: &str) -> (ErrorCode, String) {
    let error = verifier.verify(now, token).unwrap_err();
    (error.code, error.message)
}

#[test]
fn what_was_minted_is_taken_with_either_algorithm() {
    let (sign, check) = hs(None);
    let token = mint(&sign, &grant()).unwrap();
    let alice = Verified {
        user: UserId::new("alice").unwrap(),
        display_name: "Alice A.".to_owned(),
        until: NOW + 3_605,
        room: None,
    };
    assert_eq!(verifier(vec![check]).verify(NOW, &token), Ok(alice.clone()));

    let pair = new_ed25519().unwrap();
    let sign = SigningKey::ed25519_pem(Some("k1".into()), &pair.private_pem).unwrap();
    let check = VerifyingKey::ed25519_pem(Some("k1".into()), &pair.public_pem).unwrap();
    let token = mint(&sign, &grant()).unwrap();
    assert_eq!(verifier(vec![check]).verify(NOW, &token), Ok(alice));
}

#[test]
fn a_refusal_says_which_and_by_how_much() {
    let (sign, check) = hs(None);
    let check = verifier(vec![check]);
    let token = mint(&sign, &grant()).unwrap();
    let (code, text) = refusal(&check, NOW + 3_600 + 180, &token);
    assert_eq!(code, ErrorCode::TokenExpired);
    assert!(text.contains("expired 3 minutes ago"), "{text}");
    let (code, text) = refusal(&check, NOW - 7_200, &token);
    assert_eq!(code, ErrorCode::TokenNotYetValid);
    assert!(text.contains("in 2 hours"), "{text}");
    let other = mint(&sign, &Grant { audience: Some("mail".into()), ..grant() }).unwrap();
    let (code, text) = refusal(&check, NOW, &other);
    assert_eq!(code, ErrorCode::TokenAudience);
    assert!(text.contains("mail") && text.contains("calls"), "{text}");
}

#[test]
fn clocks_may_differ_by_the_leeway() {
    let (sign, check) = hs(None);
    let check = verifier(vec![check]);
    let token = mint(&sign, &grant()).unwrap();
    assert!(check.verify(NOW + 3_604, &token).is_ok());
    assert!(check.verify(NOW + 3_605, &token).is_err());
    assert!(check.verify(NOW - 5, &token).is_ok());
    assert!(check.verify(NOW - 6, &token).is_err());
}

#[test]
fn a_public_key_is_never_used_as_a_secret() {
    // The classic confusion: sign with HS256, the secret being the server's public key in PEM.
    let pair = new_ed25519().unwrap();
    let check = verifier(vec![VerifyingKey::ed25519_pem(None, &pair.public_pem).unwrap()]);
    let forged = mint(&SigningKey::hs256(None, pair.public_pem.as_bytes()).unwrap(), &grant()).unwrap();
    let (code, text) = refusal(&check, NOW, &forged);
    assert_eq!(code, ErrorCode::TokenInvalid);
    assert!(text.contains("HS256") && text.contains("EdDSA"), "{text}");
}

#[test]
fn an_unsigned_token_is_refused() {
    let (_, check) = hs(None);
    let body = mint(&hs(None).0, &grant()).unwrap();
    let claims = body.split('.').nth(1).unwrap();
    let none = format!("eyJhbGciOiJub25lIn0.{claims}.");
    assert_eq!(refusal(&verifier(vec![check]), NOW, &none).0, ErrorCode::TokenInvalid);
}

#[test]
fn keys_rotate_by_id() {
    let (old_sign, old) = hs(Some("old"));
    let pair = new_ed25519().unwrap();
    let new_sign = SigningKey::ed25519_pem(Some("new".into()), &pair.private_pem).unwrap();
    let new = VerifyingKey::ed25519_pem(Some("new".into()), &pair.public_pem).unwrap();
    let both = verifier(vec![old, new.clone()]);
    for key in [&old_sign, &new_sign] {
        assert!(both.verify(NOW, &mint(key, &grant()).unwrap()).is_ok());
    }
    let (code, text) = refusal(&verifier(vec![new]), NOW, &mint(&old_sign, &grant()).unwrap());
    assert_eq!(code, ErrorCode::TokenInvalid);
    assert!(text.contains("\"old\""), "{text}");
}

#[test]
fn a_changed_token_is_refused() {
    let (sign, check) = hs(None);
    let token = mint(&sign, &grant()).unwrap();
    let other = mint(&sign, &Grant { user: UserId::new("mallory").unwrap(), ..grant() }).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let claims = other.split('.').nth(1).unwrap();
    let spliced = format!("{}.{claims}.{}", parts[0], parts[2]);
    assert_eq!(refusal(&verifier(vec![check]), NOW, &spliced).0, ErrorCode::TokenInvalid);
}

#[test]
fn odd_tokens_are_refused_in_words() {
    let (sign, check) = hs(None);
    let check = verifier(vec![check]);
    for odd in ["", "a.b.c", "...", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
        assert_eq!(refusal(&check, NOW, odd).0, ErrorCode::TokenInvalid);
    }
    let claims =
        |value: serde_json::Value| jsonwebtoken::encode(&Header::new(Algorithm::HS256), &value, &sign.key).unwrap();
    for (value, part) in [
        (serde_json::json!({"sub": "a", "aud": "calls"}), "no exp"),
        (serde_json::json!({"exp": NOW + 9, "aud": "calls"}), "no sub"),
        (serde_json::json!({"exp": NOW + 9, "aud": "calls", "sub": "a b"}), "no user id"),
        (serde_json::json!({"exp": -1, "aud": "calls", "sub": "a"}), "no time"),
        (serde_json::json!({"exp": "soon", "aud": "calls", "sub": "a"}), "cannot be read"),
    ] {
        let (code, text) = refusal(&check, NOW, &claims(value));
        assert_eq!(code, ErrorCode::TokenInvalid);
        assert!(text.contains(part), "{text}");
    }
    assert!(check.verify(NOW, &claims(serde_json::json!({"exp": NOW + 9, "aud": ["x", "calls"], "sub": "a"}))).is_ok());
}

#[test]
fn a_short_secret_is_refused() {
    assert_eq!(VerifyingKey::hs256(None, b"short").unwrap_err(), KeyError::ShortSecret(5));
}

#[test]
fn room_grants_survive_minting_and_absent_ones_have_their_defaults() {
    use halloo_protocol::{RoomGrants, RoomId, SourceKind};
    let (sign, check) = hs(None);
    let check = verifier(vec![check]);
    let named = |names: &[&str]| RoomScope::Named(names.iter().map(|name| RoomId::new(*name).unwrap()).collect());
    for (rooms, publish, subscribe, moderate) in [
        (RoomScope::Every, SourceKind::ALL.to_vec(), true, true),
        (named(&["standup"]), vec![SourceKind::Microphone], false, false),
        (named(&["a", "b"]), vec![], true, false),
    ] {
        let room = RoomGrant { rooms, grants: RoomGrants { publish, subscribe, moderate } };
        let token = mint(&sign, &Grant { room: Some(room.clone()), ..grant() }).unwrap();
        assert_eq!(check.verify(NOW, &token).unwrap().room, Some(room));
    }
    let claims = |room: serde_json::Value| {
        let claims = serde_json::json!({"sub": "alice", "aud": "calls", "exp": NOW + 60, "room": room});
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &sign.key).unwrap();
        check.verify(NOW, &token)
    };
    let all = RoomGrants { publish: SourceKind::ALL.to_vec(), subscribe: true, moderate: false };
    let standup = RoomGrant { rooms: named(&["standup"]), grants: all.clone() };
    assert_eq!(claims(serde_json::json!({"name": "standup"})).unwrap().room, Some(standup.clone()));
    assert_eq!(claims(serde_json::json!({"name": ["standup"], "publish": true})).unwrap().room, Some(standup));
    let silent = claims(serde_json::json!({"name": "*", "publish": false})).unwrap().room.unwrap();
    assert_eq!((silent.rooms, silent.grants.publish), (RoomScope::Every, vec![]));
    assert_eq!(claims(serde_json::json!({"name": "a b"})).unwrap_err().code, ErrorCode::TokenInvalid);
    assert_eq!(claims(serde_json::json!({"publish": true})).unwrap_err().code, ErrorCode::TokenInvalid);
}
