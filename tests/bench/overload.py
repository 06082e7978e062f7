"""The HTTP door at three times what it can do: ``python -m tests.bench.overload [--seconds 30] [--times 3]``.

Starts a PostgreSQL and a `webhook serve`, measures how many triggers a second it takes from clients that wait for
their answers, and then sends so many times more, whether or not they are answered. What is shown must hold: each
request has its answer, 202, 429 or 503, within the time limit from when it was sent, and what was accepted is what lies
in the outbox. Where less was offered than wanted, the machine is too busy to send more.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import select

from streams.broker.postgres_server import postgres_url
from streams.capture.outbox import OUTBOX
from streams.database import create_database_engine
from streams.settings import Settings
from tests.bench.open_loop import Figures, closed_loop, open_loop, share_s
from tests.support.load import CONFIGURATION, ENDPOINT
from tests.support.roles import Installation, Role, installation
from tests.support.services import running_postgres
from tests.support.waiting import eventually

ANSWER_S: Final = 10.0
"""Within which each request has its answer."""
CLIENTS: Final = 32
WARM_UP_S: Final = 3.0
CAPACITY_S: Final = 10.0
EXPECTED: Final = frozenset({202, 429, 503})
_SHARES: Final = {"p50": 0.5, "p99": 0.99, "slowest": 1.0}
_LISTENING: Final = "listening on "


def measure(seconds: float, times: float, token_rate_per_s: float) -> dict[str, Any]:
    """Capacity, and what came of ``times`` as many requests; ``token_rate_per_s`` 0: no limit but the door's own."""
    with running_postgres() as postgres, tempfile.TemporaryDirectory(prefix="webhook-overload-") as directory:
        # No broker listens here: triggers need none.
        settings = Settings.model_validate({"bootstrap_servers": "127.0.0.1:1", "topic_prefix": "overload"})
        url = postgres_url(postgres)
        with installation(settings, url, Path(directory)) as roles:
            token = _prepare(roles)
            door = _start(roles, token_rate_per_s)
            engine = create_database_engine(url)
            try:
                before, capacity, answers = asyncio.run(_load(door, token, seconds, times))
                with engine.connect() as connection:
                    recorded = set(connection.execute(select(OUTBOX.c.record_id)).scalars())
            finally:
                engine.dispose()
            roles.check()
    accepted = {*before, *answers.event_ids}
    late = sum(answer > ANSWER_S for answer in answers.answers_s)
    answered = sum(answers.statuses.values())
    others = {status: count for status, count in answers.statuses.items() if status not in EXPECTED}
    return {
        "capacity_per_s": round(capacity, 1),
        "wanted_per_s": round(capacity * times, 1),
        "offered_per_s": round(answers.sent / answers.elapsed_s, 1),
        "sent": answers.sent,
        **{f"answered_{status}": answers.statuses[status] for status in sorted(EXPECTED)},
        "answered_otherwise": others,
        "unanswered": answers.sent - answered,
        "late": late,
        **_milliseconds("answer", answers.answers_s),
        # From when a request was due: with what this client itself was late.
        **_milliseconds("latency", answers.latencies_s),
        "accepted": len(accepted),
        "recorded": len(recorded),
        "holds": not others and not late and answered == answers.sent and accepted == recorded,
    }


def _milliseconds(name: str, seconds: Sequence[float]) -> dict[str, int]:
    return {f"{name}_{at}_ms": round(1000 * share_s(seconds, share)) for at, share in _SHARES.items()}


def _prepare(roles: Installation) -> str:
    """A tenant; the text of a token that may trigger for it."""
    roles.run("migrate")
    document = roles.journal.with_name("tenant.json")
    document.write_text(json.dumps(CONFIGURATION))
    roles.run("tenants", "create", "overload", "--config", str(document))
    token: str = json.loads(roles.run("tokens", "create", "overload", "--tenant", "1", "--json"))["token"]
    return token


def _start(roles: Installation, token_rate_per_s: float) -> str:
    """The URL of a door."""
    limits = {"WEBHOOK_HTTP_PORT": "0", "WEBHOOK_HTTP_TOKEN_RATE_PER_S": str(token_rate_per_s)}
    role = roles.start("serve", extra=limits)
    return eventually(lambda: _url(role), 120, "the door listens")


def _url(role: Role) -> str:
    lines = role.log.read_text(errors="replace").splitlines()
    return next((line.removeprefix(_LISTENING) for line in lines if line.startswith(_LISTENING)), "")


async def _load(door: str, token: str, seconds: float, times: float) -> tuple[list[str], float, Figures]:
    """Ids accepted before the overload, the capacity, and what came of the overload."""
    place = urlsplit(door)
    host, port = place.hostname or "", place.port or 0
    body = json.dumps({"endpoint": ENDPOINT, "payload": {"id": 7}}).encode()
    head = (
        f"POST /v1/webhooks HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    warm_up = await closed_loop(host, port, request, CLIENTS, WARM_UP_S)
    measured = await closed_loop(host, port, request, CLIENTS, CAPACITY_S)
    capacity = measured.statuses[202] / measured.elapsed_s
    print(f"capacity: {capacity:,.0f} triggers/s", file=sys.stderr)
    answers = await open_loop(host, port, request, capacity * times, seconds, 3 * ANSWER_S)
    return [*warm_up.event_ids, *measured.event_ids], capacity, answers


def main() -> int:
    """Print what was measured; 1 where what must hold does not."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long more is sent than can be taken")
    parser.add_argument("--times", type=float, default=3.0, help="how many times the capacity is sent")
    parser.add_argument("--token-rate", type=float, default=0.0, help="requests a second of one token; 0: any number")
    arguments = parser.parse_args()
    figures = measure(arguments.seconds, arguments.times, arguments.token_rate)
    print(json.dumps(figures, indent=2))
    return int(not figures["holds"])


if __name__ == "__main__":
    sys.exit(main())
