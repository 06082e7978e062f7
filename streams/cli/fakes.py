"""``webhook fakes``: stand-ins for the upstreams, to try things out without calling anybody."""

import asyncio
import signal
from typing import Annotated, Final

import typer

from handlers.dwd.fake import FakeUpstream
from handlers.printcom.fake import FakePrintcom
from handlers.upstreams.fake import FAULTS, Behaviour, FakeApi
from streams.cli.console import examples, note
from streams.errors import SetupError

_ADMIN: Final = (
    """curl -X PUT localhost:8431/_fake/behaviour -d '{"faults": ["lost", "none"], "repeat_faults": true}'""",
    """curl -X PUT localhost:8431/_fake/orders/600000 -d '{"status": "shipped"}'""",
    "curl localhost:8431/_fake/journal",
)

fakes_app = typer.Typer(
    name="fakes",
    help="Serve stand-ins for the upstreams on this machine."
    + examples("webhook fakes dwd", "webhook fakes printcom --fault stall --stall-s 120", *_ADMIN),
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
Faults = Annotated[
    list[str] | None,
    typer.Option("--fault", help=f"What each call meets, one after another and over again: {', '.join(FAULTS)}."),
]
Stall = Annotated[float, typer.Option(min=0, help="How long a stall lasts, in seconds.")]
Processed = Annotated[float, typer.Option(min=0, help="How long a new order does not show yet, in seconds.")]


@fakes_app.command(
    "dwd",
    help="Serve a stand-in for the Printdeal API until interrupted."
    + examples("webhook fakes dwd --port 8431", "webhook fakes dwd --fault none --fault lost --processed-after-s 30"),
)
def serve_dwd(
    port: Port = 8431,
    host: Host = "127.0.0.1",
    faults: Faults = None,
    stall_s: Stall = 120.0,
    processed_after_s: Processed = 0.0,
) -> None:
    """Serve the fake."""
    fake = FakeUpstream(host, port, _behaviour(faults, stall_s, processed_after_s))
    asyncio.run(_serve(fake, '"client_id": "any", "secret": "any"'))


@fakes_app.command(
    "printcom",
    help="Serve a stand-in for the Print.com API until interrupted."
    + examples("webhook fakes printcom --port 8432", "webhook fakes printcom --fault stall --stall-s 120"),
)
def serve_printcom(
    port: Port = 8432,
    host: Host = "127.0.0.1",
    faults: Faults = None,
    stall_s: Stall = 120.0,
    processed_after_s: Processed = 0.0,
) -> None:
    """Serve the fake."""
    fake = FakePrintcom(host, port, _behaviour(faults, stall_s, processed_after_s))
    asyncio.run(_serve(fake, '"api_key": "any"'))


def _behaviour(faults: list[str] | None, stall_s: float, processed_after_s: float) -> Behaviour:
    unknown = [fault for fault in faults or () if fault not in FAULTS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(FAULTS)}", param_hint="--fault")
    return Behaviour(
        faults=list(faults or ()), repeat_faults=True, stall_s=stall_s, processed_after_s=processed_after_s
    )


async def _serve(fake: FakeApi, credentials: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await fake.__aenter__()
    except OSError as error:
        raise SetupError(
            f"Port {fake.port} of {fake.host} cannot be listened on: {error.strerror or error}.",
            "Choose another with --port; 0 takes a free one.",
        ) from None
    root = fake.url.removesuffix(fake.path)
    note(f'Set "auth": {{"url": "{fake.url}", {credentials}}} in a tenant, and WEBHOOK_OUTBOUND_ALLOW={fake.host}.')
    note(f"What was ordered: {root}/_fake/journal. How it behaves: {root}/_fake/behaviour. Ctrl-C ends it.")
    try:
        await stop.wait()
    finally:
        await fake.__aexit__(None, None, None)
