"""The TLS credentials of the control service's TCP server; certificates change without a restart.

gRPC asks at each handshake, from a thread of its own: three `stat` calls, and only when one says
that a file has changed are all three read, once. What cannot be used is refused as a whole: the
certificates before stay, the log and a metric say so. A new file is taken in one piece if it is
renamed into place; between the writes of a pair the old pair serves.
"""

from __future__ import annotations

import datetime
import threading

import grpc
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from trainerd.daemon.certificates import CertificateError, CertificateFiles, Credentials

log = structlog.get_logger()


class TlsMetrics:
    """When the certificates expire, and how often changed files could not be used."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.expires = Gauge(
            "trainerd_api_certificate_expiry_timestamp_seconds",
            "When the first certificate of the control service expires.",
            registry=registry,
        )
        self.refused = Counter(
            "trainerd_api_certificate_reload_failures",
            "Changed certificate files that could not be used.",
            registry=registry,
        )


class Certificates:
    """The certificates in use, and what becomes of changed files."""

    def __init__(self, files: CertificateFiles, metrics: TlsMetrics) -> None:
        """Read the files. Raise `CertificateError`."""
        self._files = files
        self._metrics = metrics
        self._lock = threading.Lock()
        self._stamps = files.stamps()
        self._current = files.read()
        self._metrics.expires.set(self._current.expires)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a server that demands a certificate of every client."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._current),
            self.changed,  # type: ignore[arg-type] # None is what gRPC wants where nothing changed.
            require_client_authentication=True,
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What to serve with from now on; None: go on as before. From any thread."""
        with self._lock:
            stamps = self._files.stamps()
            if stamps == self._stamps:
                return None
            # Whatever comes of it: the same files are not read again at the next handshake.
            self._stamps = stamps
            try:
                self._current = self._files.read()
            except CertificateError as error:
                self._metrics.refused.inc()
                log.error("certificates_not_reloaded", problems=error.problems)
                return None
            self._metrics.expires.set(self._current.expires)
            expires = datetime.datetime.fromtimestamp(self._current.expires, datetime.UTC)
            log.info("certificates_reloaded", expires=expires.isoformat())
            return _configuration(self._current)


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(credentials.key, credentials.cert)], root_certificates=credentials.ca
    )
