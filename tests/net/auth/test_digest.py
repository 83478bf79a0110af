"""net/auth/digest: what is kept instead of a password."""

from fastsmtp.net.auth.digest import Digests


def test_it_tells_users_and_passwords_apart_and_keeps_neither():
    digests = Digests()
    made = digests.of("anna", b"secret")
    assert made == digests.of("anna", b"secret")
    pairs = [("annas", b"ecret"), ("anna", b""), ("", b"annasecret")]
    others = {digests.of(*each) for each in pairs}
    assert len(others | {made}) == 4
    assert {len(each) for each in others} == {len(made)} == {32}
    assert b"secret" not in made


def test_another_process_makes_others():
    assert Digests().of("anna", b"secret") != Digests().of("anna", b"secret")
