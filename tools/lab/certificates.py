"""A certificate authority in a folder, by openssl."""

from pathlib import Path

from . import processes

_NEW = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]


class Authority:
    """Keeps ca.crt and ca.key in the folder, and what it signs beside them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.openssl("req", *_NEW, "-subj", "/CN=weir-lab-ca", "-keyout", "ca.key", "-out", "ca.crt")

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    def sign(self, name: str, subject: str, addresses="") -> tuple[Path, Path]:
        """Certificate and key. A client's user is the subject's CN, its groups are the O's; `addresses` are a server's, as
        subjectAltName has them."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        more = ["-addext", f"subjectAltName={addresses}"] if addresses else []
        signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
        self.openssl("req", *_NEW, *signed, "-subj", subject, *more, "-keyout", key.name, "-out", certificate.name)
        return certificate, key

    def openssl(self, *arguments: str) -> None:
        """Runs openssl in the folder."""
        processes.run(["sh", "-c", 'cd "$1" && shift && exec openssl "$@"', "sh", str(self.folder), *arguments])
