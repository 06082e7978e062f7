"""``webhook rates``, ``breakers`` and ``weights``: what tenants and their upstreams may use, changed while all runs."""

from typing import Annotated, Any, Final

import typer

from schemas.events import ControlState, Micros, now_micros, to_datetime
from streams.cli.console import Json, examples, say, show, show_json
from streams.cli.control import Reason, caller, control_view, write_control
from streams.control.log import control_state
from streams.control.view import BREAKER, RATE, WEIGHT, Breaker, Rate, Weight
from streams.errors import SetupError
from topics.keys import join_parts, split_parts

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.")]
Host = Annotated[str, typer.Argument(metavar="HOST", help="The upstream's host, as in its URL.")]

_WHO: Final = {"tenant": "TENANT", "host": "HOST"}
_WHY: Final = {"since": "SINCE", "by": "BY", "reason": "REASON"}

rates_app = typer.Typer(
    help="Call rates of tenants' upstreams, over all workers together."
    + examples(
        "webhook rates set 7 api.example.com --limit 10 --burst 5", "webhook rates list", "webhook rates clear 7 host"
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
)
breakers_app = typer.Typer(
    help="Circuits to tenants' upstreams: open while one fails, so that nothing is sent to it in vain."
    + examples("webhook breakers list --open", "webhook breakers reset 7 api.example.com"),
    no_args_is_help=True,
    rich_markup_mode="rich",
)
weights_app = typer.Typer(
    help="Tenants' shares of the workers; they bind only while several tenants wait."
    + examples("webhook weights set 7 3", "webhook weights set 8 1 --cap 50", "webhook weights list"),
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@rates_app.command("list")
def list_rates(as_json: Json = False) -> None:
    """List the call rates.

    [bold]Examples[/bold]

      webhook rates list --json
    """
    columns = {**_WHO, "limit": "CALLS", "per_s": "EACH S", "burst": "AT ONCE", **_WHY}
    show([row | value._asdict() for row, value in _states(RATE)], columns, as_json, "No rate is set.")


@rates_app.command("set")
def set_rate(
    tenant: Tenant,
    host: Host,
    limit: Annotated[int, typer.Option(min=1, help="Calls in each period.")],
    per: Annotated[float, typer.Option(min=0.001, help="Length of the period in seconds.")] = 1.0,
    burst: Annotated[int, typer.Option(min=1, help="Calls that may come at once after a pause.")] = 1,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Let a tenant call an upstream so often at most, all workers together. It holds from now on.

    [bold]Examples[/bold]

      webhook rates set 7 api.example.com --limit 10 --per 1 --burst 5
    """
    _set(RATE, (tenant, host.lower()), Rate(limit, per, burst), reason, as_json)


@rates_app.command("clear")
def clear_rate(tenant: Tenant, host: Host, reason: Reason = None, as_json: Json = False) -> None:
    """Let a tenant call an upstream as often as it likes.

    [bold]Examples[/bold]

      webhook rates clear 7 api.example.com
    """
    _set(RATE, (tenant, host.lower()), None, reason, as_json)


@breakers_app.command("list")
def list_breakers(
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are open or half open.")] = False,
    as_json: Json = False,
) -> None:
    """List the circuits that have ever opened.

    [bold]Examples[/bold]

      webhook breakers list --open --json
    """
    rows = [
        row
        | {
            "state": breaker.state,
            "failures": breaker.failures,
            "since": _time(breaker.since),
            "open_until": _time(breaker.open_until) if breaker.state == "open" else None,
        }
        for row, breaker in _states(BREAKER)
        if not only_open or breaker.state != "closed"
    ]
    columns = {**_WHO, "state": "STATE", "failures": "FAILURES", "since": "SINCE", "open_until": "PROBE AT"}
    show(rows, columns, as_json, "Every circuit is closed.")


@breakers_app.command("reset")
def reset_breaker(tenant: Tenant, host: Host, reason: Reason = None, as_json: Json = False) -> None:
    """Close a circuit at once; it opens again where the upstream goes on failing.

    [bold]Examples[/bold]

      webhook breakers reset 7 api.example.com --reason "the upstream is back"
    """
    subject = join_parts(tenant, host.lower())
    with control_view() as (_, view):
        if view.value(BREAKER, subject) is None:
            known = ", ".join(" ".join(split_parts(state.subject)) for state in view.states(BREAKER)) or "none"
            raise SetupError(f"No circuit of tenant {tenant} to {host} has ever opened.", f"Known are: {known}.")
    _set(BREAKER, (tenant, host.lower()), Breaker(since=now_micros()), reason, as_json)


@weights_app.command("list")
def list_weights(as_json: Json = False) -> None:
    """List the shares that were set; every other tenant's weight is 1.

    [bold]Examples[/bold]

      webhook weights list --json
    """
    columns = {"tenant": "TENANT", "weight": "WEIGHT", "cap": "AT MOST", **_WHY}
    show([row | value._asdict() for row, value in _states(WEIGHT)], columns, as_json, "No share is set: all are equal.")


@weights_app.command("set")
def set_weight(
    tenant: Tenant,
    weight: Annotated[float, typer.Argument(min=0.01, help="Its part in proportion to the others'; 1 is usual.")],
    cap: Annotated[int | None, typer.Option(min=1, help="Running tasks in each worker while others wait.")] = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Give a tenant a larger or smaller share of the workers.

    [bold]Examples[/bold]

      webhook weights set 7 3 --reason "premium"
    """
    _set(WEIGHT, (tenant,), Weight(weight, cap), reason, as_json)


@weights_app.command("clear")
def clear_weight(tenant: Tenant, reason: Reason = None, as_json: Json = False) -> None:
    """Give a tenant the same share as others.

    [bold]Examples[/bold]

      webhook weights clear 7
    """
    _set(WEIGHT, (tenant,), None, reason, as_json)


def _states(name: str) -> list[tuple[dict[str, object], Any]]:
    """Who each state of a name is about and since when it holds, with its value."""
    with control_view() as (_, view):
        return [(_about(state), view.value(name, state.subject)) for state in view.states(name)]


def _about(state: ControlState) -> dict[str, object]:
    about = dict(zip(_WHO, split_parts(state.subject), strict=False))
    return {**about, "since": to_datetime(state.updated_at), "by": state.updated_by, "reason": state.reason}


def _set(name: str, about: tuple[str, ...], value: Any, reason: str | None, as_json: bool) -> None:
    fields = None if value is None else value._asdict()
    write_control([control_state(name, join_parts(*about), fields, caller(), reason)])
    if as_json:
        show_json({**dict(zip(_WHO, about, strict=False)), "name": name, "value": fields})
    else:
        shown = "cleared" if fields is None else ", ".join(f"{key} {each}" for key, each in fields.items())
        say(f"{name} of {' '.join(about)}: {shown}")


def _time(micros: Micros) -> object:
    return to_datetime(micros) if micros else None
