"""Old names of options, which still work: each says what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ..renaming import renamed_line


class OldOption(click.Option):
    """An option by its old name: whatever it is given goes to the option it is now.

    Neither help nor completion shows it.

    Parameters
    ----------
    old : str
        The flag as it was: ``--group``.
    now : click.Option
    """

    def __init__(self, old: str, now: click.Option) -> None:
        super().__init__(
            [old, f"old_{old.strip('-').replace('-', '_')}"],
            multiple=now.multiple,
            type=click.UNPROCESSED,
            hidden=True,
            expose_value=False,
            is_eager=True,  # before the option that it is now
        )
        self.now = now

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        value = opts.get(self.name)
        if value is not None:
            self._hand_over(ctx, value, opts)
        return super().handle_parse_result(ctx, {}, args)

    def _hand_over(self, ctx: click.Context, value: Any, opts: Any) -> None:
        from ..show import terminal

        old, new, name = self.opts[0], self.now.opts[0], self.now.name
        if not ctx.resilient_parsing:  # of a line that is being completed
            terminal.say(f"Warning: {renamed_line(old, new)}", style="yellow", stderr=True)
        if self.multiple:
            opts[name] = [*opts.get(name, ()), *value]
        elif name in opts:
            raise click.UsageError(f"{old} is the old name of {new}; give {new} alone", ctx)
        else:
            opts[name] = value


class WithOldNames(click.Command):
    """A command whose options go by old names too: ``old={"--group": "--into"}``.

    Its `params` are those it has; the old names only stand where a line is parsed.

    Parameters
    ----------
    old : mapping
        Old flag → flag.
    """

    def __init__(self, *given: Any, old: Mapping[str, str], **more: Any) -> None:
        super().__init__(*given, **more)
        flags = {flag: one for one in self.params for flag in one.opts}
        self._old = [OldOption(flag, _option(flags[now])) for flag, now in old.items()]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self._old]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:  # a slip is told by the names there are
            hidden = {flag for option in self._old for flag in option.opts}
            near = [flag for flag in error.possibilities or () if flag not in hidden]
            raise click.NoSuchOption(error.option_name, error.message, near, ctx) from None


def _option(parameter: click.Parameter) -> click.Option:
    assert isinstance(parameter, click.Option)
    return parameter
