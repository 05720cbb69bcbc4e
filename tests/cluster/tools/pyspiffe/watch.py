"""Uses a Workload API socket as programs in Python do, and says what it sees as JSON lines on standard output.

    watch.py SOCKET [AUDIENCE...]

It follows the X.509-SVID with an X509Source and, where audiences are given, tokens with a JwtSource. Both connect again
by themselves. It prints what tools/gospiffe prints.
"""

import json
import logging
import sys
import threading
from datetime import datetime, timezone

from spiffe import JwtSource, JwtSvid, WorkloadApiClient, X509Source

OUTPUT = threading.Lock()


def say(event, **values):
    """Prints an event; what it tells has nothing that is secret."""
    with OUTPUT:
        print(json.dumps({"event": event, **values}), flush=True)


def rfc3339(moment):
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def say_x509(source):
    context = source.get_x509_context()
    svid = context.default_svid
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    serial = svid.leaf.serial_number
    say(
        "x509",
        spiffe_id=str(svid.spiffe_id),
        serial=serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex(),
        not_after=rfc3339(svid.leaf.not_valid_after_utc),
        bundle=len(bundle.x509_authorities),
    )


def say_jwt(source, client, audience):
    """Fetches a token and has it checked twice: by the library with the bundles it was sent, and by the server."""
    fetched = source.fetch_svid({audience})
    bundle = source.get_bundle_for_trust_domain(fetched.spiffe_id.trust_domain)
    checked = JwtSvid.parse_and_validate(fetched.token, bundle, {audience})
    validated = client.validate_jwt_svid(fetched.token, audience)
    if validated.spiffe_id != checked.spiffe_id:
        raise ValueError(f"the server says {validated.spiffe_id}, the library {checked.spiffe_id}")
    expires = datetime.fromtimestamp(checked.expiry, timezone.utc)
    say("jwt", spiffe_id=str(checked.spiffe_id), audience=sorted(checked.audience), expires=rfc3339(expires))


def say_jwts(source, client, audiences):
    for audience in audiences:
        try:
            say_jwt(source, client, audience)
        except Exception as error:
            say("error", audience=audience, error=str(error))


class LoggedProblems(logging.Handler):
    """Prints what the library logs."""

    def emit(self, record):
        say("log", message=record.getMessage())


def main(socket, audiences):
    logging.getLogger("spiffe").addHandler(LoggedProblems(logging.WARNING))
    x509 = X509Source(socket_path=socket)
    say_x509(x509)
    x509.subscribe_for_updates(lambda: say_x509(x509))
    if audiences:
        jwt, client = JwtSource(socket_path=socket), WorkloadApiClient(socket)
        say_jwts(jwt, client, audiences)
        # Not on the thread that delivers updates, because the calls would wait for updates on it.
        again = lambda: threading.Thread(target=say_jwts, args=(jwt, client, audiences), daemon=True).start()
        jwt.subscribe_for_updates(again)
    threading.Event().wait()


if __name__ == "__main__":
    main(f"unix://{sys.argv[1]}", sys.argv[2:])
