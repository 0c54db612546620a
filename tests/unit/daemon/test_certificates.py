"""Certificate files: everything that is wrong with them at once; and those that `certs` makes."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.certificates import NOW, Authority, Pair, api
from trainerd.daemon.certificates import CertificateFiles, certificate_problems
from trainerd.daemon.config import ConfigError, load
from trainerd.daemon.main import main
from trainerd.daemon.making_certificates import NotMade, Wanted, make


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def problems(root: Path, authority: Authority) -> list[str]:
    section = api(root, authority)
    return [each.replace(str(root), "…") for each in certificate_problems(section)]


def test_good_files_have_no_problem_and_say_when_they_expire(
    tmp_path: Path, authority: Authority
) -> None:
    section = api(tmp_path, authority, authority.pair(days=3))

    assert certificate_problems(section) == ()
    expires = CertificateFiles.of(section).read().expires
    assert abs(expires - NOW.timestamp() - 3 * 86_400) < 2


def test_every_problem_of_the_files_is_told_at_once(tmp_path: Path, authority: Authority) -> None:
    section = api(tmp_path, authority, authority.pair(days=-0.5))
    (tmp_path / "ca.crt").unlink()
    (tmp_path / "daemon.key").chmod(0o644)

    told = certificate_problems(section)

    assert [each.partition(":")[0] for each in told] == ["api.ca", "api.cert", "api.key"]
    assert "No such file or directory" in told[0]
    assert "cannot serve: certificate has expired" in told[1]
    assert "chmod 600" in told[2]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("ca.crt", b"", "api.ca: …/ca.crt: is empty"),
        ("ca.crt", b"junk", "api.ca: …/ca.crt: is not a certificate in PEM"),
        ("daemon.crt", b"junk", "api.cert: …/daemon.crt: is not a certificate in PEM"),
        ("daemon.key", b"junk", "api.key: …/daemon.key: is not a private key in PEM"),
    ],
)
def test_a_file_that_is_something_else_is_named(
    tmp_path: Path, authority: Authority, file: str, content: bytes, said: str
) -> None:
    section = api(tmp_path, authority)
    (tmp_path / file).write_bytes(content)

    (told,) = certificate_problems(section)

    assert told.replace(str(tmp_path), "…").startswith(said)


def test_a_key_must_be_the_certificates_own_and_not_encrypted(
    tmp_path: Path, authority: Authority
) -> None:
    section = api(tmp_path, authority)
    (tmp_path / "daemon.key").write_bytes(authority.pair().key)
    (told,) = certificate_problems(section)
    assert "is not the key of the certificate in" in told

    pair = authority.pair()
    locked = serialization.load_pem_private_key(pair.key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    Pair(cert=pair.cert, key=locked).write(tmp_path, "daemon")
    (told,) = certificate_problems(section)
    assert "is not a private key in PEM, unencrypted" in told


def test_a_certificate_must_be_for_what_it_is_used(tmp_path: Path, authority: Authority) -> None:
    client = authority.pair(usages=[ExtendedKeyUsageOID.CLIENT_AUTH])
    section = api(tmp_path, authority, client)
    (tmp_path / "ca.crt").write_bytes(client.cert)

    told = certificate_problems(section)

    assert "has no certificate of a CA" in told[0]
    assert "cannot serve" in told[1]
    assert "purpose" in told[1]
    later = authority.pair(from_days=1)
    (late,) = certificate_problems(api(tmp_path, authority, later))
    assert "certificate is not yet valid" in late
    old = Authority("old", days=-0.5)
    (expired,) = certificate_problems(api(tmp_path, old, authority.pair()))
    assert expired.startswith(f"api.ca: {tmp_path / 'ca.crt'}: has expired at ")


def test_tcp_needs_all_three_files_and_an_address(tmp_path: Path) -> None:
    def told(text: str) -> list[str]:
        path = tmp_path / "c.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(path)
        return [each.removeprefix(f"{path}: ") for each in caught.value.problems]

    (missing,) = told('[api]\nlisten = "0.0.0.0:7443"\nca = "ca.crt"\n')
    assert missing.startswith("api.listen needs api.cert, api.key: TCP is served with mutual TLS")
    (alone,) = told('[api]\nca = "ca.crt"\n')
    assert alone.startswith("api.ca without api.listen")
    text = '[api]\nlisten = "7443"\nca = "a"\ncert = "b"\nkey = "c"\n[api.roles]\nviewer = ["*"]\n'
    address, identity = told(text)
    assert address == 'api.listen must be "host:port" or "", got "7443"'
    assert identity.endswith('got "*"')
    assert told("[limits]\ncalls = 0\ncall_s = -1\n[audit]\nfiles = true\n[api]\nroles = 3\n") == [
        "audit.files must be a int, got bool True",
        "api.roles must be a table, got int 3",
        "limits.calls must be ≥ 1, got 0",
        "limits.call_s must be ≥ 1, got -1.0",
    ]


def test_a_config_sets_roles_and_paths_beside_itself(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '[api]\nlisten = "[::]:7443"\nca = "ca.crt"\ncert = "/etc/d.crt"\nkey = "d.key"\n'
        '[api.roles]\noperator = ["dns:ops.example", "spiffe://corp/ops/*"]\n[limits]\ncall_s = 5\n'
    )
    section = load(path)

    assert section.api.ca == tmp_path / "ca.crt"
    assert section.api.cert == Path("/etc/d.crt")
    assert section.api.roles.operator == ("dns:ops.example", "spiffe://corp/ops/*")
    assert section.api.roles.viewer[0] == "spiffe://trainerd/viewer"
    assert section.limits.call_s == 5.0


def test_check_config_reads_the_certificates(
    tmp_path: Path, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    api(tmp_path, authority)
    path = tmp_path / "c.toml"
    path.write_text(
        '[api]\nlisten = "127.0.0.1:0"\nca = "ca.crt"\ncert = "daemon.crt"\nkey = "daemon.key"\n'
    )
    assert main(["check-config", str(path)]) == 0
    authority.pair(days=-0.5).write(tmp_path, "daemon")
    assert main(["check-config", str(path)]) == 2
    assert "certificate has expired" in capsys.readouterr().err


def names(path: Path) -> list[object]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [each.value for each in found.value]


def test_certs_makes_an_authority_and_certificates_that_the_daemon_takes(tmp_path: Path) -> None:
    at = tmp_path / "pki"
    wanted = Wanted(directory=at, hosts=("trainer.example", "10.1.2.3"), days=30)

    assert make(wanted, now=NOW) == ["ca", "daemon", "operator", "viewer"]

    assert at.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in at.glob("*.key")} == {0o600}
    files = CertificateFiles(ca=at / "ca.crt", cert=at / "daemon.crt", key=at / "daemon.key")
    assert abs(files.read().expires - NOW.timestamp() - 30 * 86_400) < 2
    assert names(at / "daemon.crt") == [
        "spiffe://trainerd/host/daemon",
        "localhost",
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
        "trainer.example",
        ipaddress.ip_address("10.1.2.3"),
    ]
    assert names(at / "operator.crt") == ["spiffe://trainerd/operator"]
    assert names(at / "viewer.crt") == ["spiffe://trainerd/viewer"]


def test_certs_writes_nothing_over_and_adds_another_daemon(tmp_path: Path) -> None:
    make(Wanted(directory=tmp_path), now=NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(NotMade, match=r"daemon.crt \(or .key\) exists and is left as it is"):
        make(Wanted(directory=tmp_path), now=NOW)
    assert make(Wanted(directory=tmp_path, daemon="node-2", hosts=("n2",)), now=NOW) == ["node-2"]

    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"node-2.crt", "node-2.key"}
    assert names(tmp_path / "node-2.crt")[0] == "spiffe://trainerd/host/node-2"
    (tmp_path / "ca.key").unlink()
    with pytest.raises(NotMade, match=r"ca.key is missing"):
        make(Wanted(directory=tmp_path, daemon="node-3"), now=NOW)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"daemon": "operator"}, "--daemon must be"),
        ({"daemon": "../x"}, "--daemon must be"),
        ({"days": 0}, "--days must be"),
        ({"hosts": ("a b",)}, "--host must be"),
        ({"hosts": ("https://x",)}, "--host must be"),
    ],
)
def test_certs_refuses_what_it_cannot_make(
    tmp_path: Path, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(NotMade, match=said):
        make(dataclasses.replace(Wanted(directory=tmp_path / "x"), **wrong), now=NOW)
    assert not (tmp_path / "x").exists()


def test_the_command_says_what_to_configure_and_what_to_give_to_trainerctl(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["certs", str(tmp_path / "pki"), "--host", "trainer.example"]

    assert main(arguments) == 0
    told = capsys.readouterr().out
    config = tmp_path / "c.toml"
    section = told[told.index("[api]") : told.index("a client")]
    config.write_text("\n".join(line.strip() for line in section.splitlines()))
    assert main(["check-config", str(config)]) == 0
    assert "--address trainer.example:7443 --tls-ca" in told
    assert main(arguments) == 2
    assert "exists" in capsys.readouterr().err
