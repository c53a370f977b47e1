"""`pysmpc completion SHELL`: a script by which a shell completes verbs, options and their choices."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_pysmpc() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} path="" each
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$path $each" in
{verbs}
        esac
    done
    case "$path $before" in
{choices}
    esac
    case "$path" in
{options}
    esac
}}
complete -o default -F _pysmpc pysmpc
"""


def parsers(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """(verbs before it, parser) of a parser and of all below it."""
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from parsers(child, f"{path} {name}")


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """Options, and the verbs or choices that may stand without an option."""
    found: list[str] = []
    for action in parser._actions:
        found += action.option_strings or map(str, action.choices or ())
    return found


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for a shell, to be evaluated there."""
    verbs, choices, options = [], [], []
    fish = ["complete -c pysmpc -f"]
    for path, each in parsers(parser):
        if path:
            verbs.append(f'            "{path}") path="{path}" ;;')
        options.append(f"        '{path}') COMPREPLY=($(compgen -W '{' '.join(_words(each))}' -- \"$word\")) ;;")
        seen = " and ".join(f"__fish_seen_subcommand_from {verb}" for verb in path.split()) or "__fish_use_subcommand"
        for action in each._actions:
            values = " ".join(map(str, action.choices or ()))
            for option in action.option_strings:
                if values:
                    found = f"COMPREPLY=($(compgen -W '{values}' -- \"$word\")); return"
                    choices.append(f"        '{path} {option}') {found} ;;")
                names = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
                takes = "" if action.nargs == 0 else f" -x -a '{values}'" if values else " -r -F"
                fish.append(f"complete -c pysmpc -n '{seen}' {names}{takes}")
            if values and not action.option_strings:
                fish.append(f"complete -c pysmpc -n '{seen}' -a '{values}'")
    if shell == "fish":
        return "\n".join(fish)
    bash = _BASH.format(verbs="\n".join(verbs), choices="\n".join(choices), options="\n".join(options))
    return bash if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{bash}"
