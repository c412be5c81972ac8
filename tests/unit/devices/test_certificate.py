import hashlib
import os
import shutil
import ssl

import pytest
from cryptography import x509

from edgekd.devices.certificate import Certificate, kept_certificate
from edgekd.errors import InputError


def test_a_certificate_is_made_once(tmp_path):
    made = kept_certificate(tmp_path)
    parsed = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(made.certificate.read_text())).hexdigest()
    assert made.fingerprint() == f"sha256:{digest}"
    assert parsed.not_valid_before_utc.year == 2000
    assert kept_certificate(tmp_path).fingerprint() == made.fingerprint()
    if os.name == "posix":
        assert made.key.stat().st_mode & 0o77 == 0


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    one, other = map(kept_certificate, folders)
    with pytest.raises(InputError, match="that belong together"):
        Certificate(one.certificate, other.key).fingerprint()
    with pytest.raises(InputError):
        Certificate(one.key, one.key).fingerprint()
    with pytest.raises(InputError):
        Certificate(tmp_path / "absent", one.key).fingerprint()


def test_the_first_certificate_of_a_chain_is_the_servers(tmp_path):
    made = kept_certificate(tmp_path)
    alone = made.fingerprint()
    other = tmp_path / "other"
    other.mkdir()
    chain = tmp_path / "chain.pem"
    shutil.copy(made.certificate, chain)
    with open(chain, "ab") as stream:
        stream.write(kept_certificate(other).certificate.read_bytes())
    assert Certificate(chain, made.key).fingerprint() == alone
