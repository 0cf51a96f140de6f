"""params.yaml, however odd, gives a configuration or a ConfigError of short lines: no other error, no hang, bounded memory.

Of the inputs 84 of 100 change the parsed values, which is what most of the code sees; 15 are short texts of YAML's odd parts, and 1 is
the whole of params.yaml with its text changed. The last two go through a file.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import math
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from acclimate.config import Config, load_config, parse_config
from acclimate.errors import ConfigError
from acclimate.params_file import read_yaml
from tests.security.fuzz import INPUTS, SHARE_OF_PARAMS, bounded, inputs, peak_mb

PARAMS = Path(__file__).parents[2] / "params.yaml"
_TEXT = PARAMS.read_text(encoding="utf-8")
_PLAIN: dict[str, Any] = read_yaml(PARAMS)

_CYCLE: list[Any] = []
_CYCLE.append(_CYCLE)
_CYCLIC: dict[str, Any] = {"name": "x"}
_CYCLIC["options"] = _CYCLIC
_LAUGHS: list[Any] = ["x"]
for _ in range(9):
    _LAUGHS = [_LAUGHS] * 10
_DEEP: Any = 1
for _ in range(200):
    _DEEP = {"a": [_DEEP]}

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**400, 10**5000, 0.0, -0.0, 1e-320, 1e308),
    *(math.nan, math.inf, -math.inf, 0.5, 1.5),
    *("", " ", "a", "0", "1e-4", "nan", "\0", "\x1b[31m", "a\nb", "\u202e", "\U0001f600", "\ud800", "auto", "mlm", "../..", "/etc/passwd"),
    *("a" * 10_000, "\u0301" * 2000, "<svg onload=x>", "s3://user:token@host/a?sig=1", "!!python/object:os.system", "${x}", "{{x}}", "%s"),
    *([], [[]], [None], ["a"] * 300, list(range(300)), {}, {"": ""}, {1: 2}, {None: None}, {"a": {"b": {"c": [1]}}}, {(1, 2): 3}),
    *(b"", b"\xff", {1, 2}, datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), _CYCLE, _CYCLIC, _LAUGHS, _DEEP),
    {f"key{number}": number for number in range(300)},
)

FRAGMENTS = (
    *("a", "b: 1", "- ", "? ", ": ", "{", "}", "[", "]", ",", "\n", "\n  ", "\n    ", "\t", " ", "#", "'", '"', "|\n  x", ">\n  y"),
    *(
        "&a ",
        "*a",
        "&b ",
        "*b",
        "<<: ",
        "<<: *a",
        "<<: [*a, *a]",
        "!!int ",
        "!!float ",
        "!!bool ",
        "!!null ",
        "!!binary ",
        "!!set ",
        "!!omap ",
    ),
    *(
        "!!timestamp ",
        "!!python/object:os.system ",
        "!!python/name:os.system ",
        "!x ",
        "!<",
        "!<x> ",
        "%YAML 1.1\n",
        "%YAML 9.9\n",
        "%TAG ! x\n",
    ),
    *("---\n", "...\n", "2020-99-99", "2020-01-01T99:99:99Z", "12:30:45", "0x", "0xg", "0o9", "1_000", ".inf", ".nan", "1e999", "9" * 5000),
    *(
        "~",
        "null",
        "yes",
        "=",
        "\\",
        '"\\u',
        '"\\ud800"',
        '"\\U00110000"',
        '"\\x',
        "\x00",
        "\x07",
        "\ufeff",
        "\u2028",
        "\x85",
        "\U0001f600",
    ),
    *("seed: ", "model: ", "tasks: ", "ingest: ", "model: {name: ", "a" * 2000, "[" * 60, "{a: " * 60, "- " * 60, "é", "\xff"),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in items for place in ((*path, key), *_places(each, (*path, key)))]


_PLACES = _places(_PLAIN)
_LEAST: dict[str, Any] = {
    "seed": 1,
    "model": {"name": "a"},
    "ingest": {"corpus": [{"data": "a.csv"}], "quality": {"preset": "light"}, "personal_data": {"kinds": ["key"]}},
    "tasks": {"a": {"kind": "classification", "data": {"train": "a.csv", "test": "b.csv"}, "label_map": {"x": "y"}}},
    "pretrain": {"tokens": 1000, "optimizer": {"learning_rate": 1e-4}, "objectives": {"mlm": {"weight": 1.0}}},
    "encoders": {"b": {"start": "base", "retention": {"weight_average": {}}}},
    "finetune": {"strategy": "full"},
    "recipes": {"c": {"strategy": {"lora": {"rank": 8}}}},
    "runs": {"tasks": ["a"], "encoders": ["base", "b"], "recipes": ["c"], "seeds": [0, 1], "reference": {"encoder": "b", "recipe": "c"}},
    "train": {"launch": {"processes": 1}},
    "export": {"tasks": ["a"], "latency_batches": [1]},
    "register": {"gates": {"min_metric": 0.5}},
}
_WHOLE_OR_LEAST = [(pickle.dumps(_PLAIN), _PLACES)] + [(pickle.dumps(_LEAST), _places(_LEAST))] * 15


def _changed_values(draw: random.Random) -> dict[str, Any]:
    """Up to four values replaced, removed, renamed, added or moved; of all of params.yaml, or of the fewest that are valid."""
    pickled, places = draw.choice(_WHOLE_OR_LEAST)
    raw: dict[str, Any] = pickle.loads(pickled)  # six times as fast as deepcopy
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        *above, last = draw.choice(places)
        with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier change has taken the place away
            _change(_at(raw, above), last, draw)
    return raw


def _at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


def _change(holder: Any, key: Any, draw: random.Random) -> None:
    kind, odd = draw.randrange(6), draw.choice(ODD)
    odd = copy.deepcopy(odd) if isinstance(odd, dict | list) else odd  # a later change may be inside it
    if kind == 0:
        del holder[key]
    elif kind == 1:
        name = draw.choice((f"{key}s", str(key)[1:], "validate_", "__class__", "model_config", "self", "\x1b[2J", "a\nb", "", 7, None))
        holder[name] = holder[key]
    elif kind == 2:
        holder[key] = copy.deepcopy(_at(_PLAIN, draw.choice(_PLACES)))
    elif kind == 3 and isinstance(holder, list):
        holder.append(odd)
    else:
        holder[key] = odd


def _changed_text(draw: random.Random) -> str:
    """params.yaml with pieces cut out, put in, repeated and swapped."""
    text = _TEXT
    for _ in range(draw.randrange(1, 6)):
        start = draw.randrange(len(text) + 1)
        stop = min(len(text), start + draw.randrange(1, 80))
        piece = draw.choice((draw.choice(FRAGMENTS), text[start:stop] * draw.randrange(3), chr(draw.randrange(1, 0x3000))))
        text = text[:start] + piece + text[draw.choice((start, stop)) :]
    return text


def _short_text(draw: random.Random) -> str:
    return "".join(draw.choice(FRAGMENTS) for _ in range(draw.randrange(1, 12)))


def _check(message: str) -> None:
    """No terminal codes, no endless line, no endless list."""
    assert len(message) < 150_000
    assert all(line.isprintable() and len(line) < 2100 for line in message.split("\n")), message[:300]


def test_what_is_changed_is_valid() -> None:
    assert isinstance(parse_config(_LEAST, file=PARAMS), Config)


@pytest.mark.filterwarnings("ignore")
def test_every_odd_configuration_is_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    read, before = 0, peak_mb()
    for number, draw in enumerate(inputs(round(INPUTS * SHARE_OF_PARAMS))):
        share = draw.random()
        try:
            with bounded(5):
                if share < 0.84:
                    config = parse_config(_changed_values(draw), file=path)
                else:
                    text = _changed_text(draw) if share < 0.85 else _short_text(draw)
                    path.write_text(text, encoding="utf-8", errors="surrogatepass")
                    config = load_config(path)
            assert isinstance(config, Config)
            read += 1
        except ConfigError as error:
            _check(str(error))
        except BaseException as error:
            error.add_note(f"input {number}")
            raise
    print(f"{read} were read")
    assert read  # some changes are allowed
    assert peak_mb() - before < 300


_LAUGH = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
_MERGE = "a0: &a0 {x: 1, y: 2}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10))
BOMBS = {
    "aliases of aliases, in place of a number": _LAUGH + _TEXT.replace("seed: ", "seed: *a9 #", 1),
    "aliases of aliases, in place of options": _LAUGH + _TEXT.replace("ingest:", "ingest: *a9\nx:", 1),
    "aliases of aliases, as a list of seeds": _LAUGH + _TEXT.replace("seeds: ", "seeds: *a9 #", 1),
    "merge keys of merge keys": _MERGE + _TEXT,
    "a merge key of many": "a: &a {" + ", ".join(f"k{n}: 1" for n in range(2000)) + "}\nb:\n  <<: [" + "*a, " * 20_000 + "*a]\n",
    "lists in lists": "seed: " + "[" * 400_000,
    "mappings in mappings": "seed: " + "{a: " * 200_000,
    "lists by hyphens": "- " * 400_000,
    "keys of keys": "? " * 400_000,
    "a scalar of 10 MB": "seed: " + "a" * 10_000_000,
    "a key of 900 kB": "k" * 900_000 + ": 1\n" + _TEXT,
    "five thousand unknown keys": _TEXT + "".join(f"k{n}: 1\n" for n in range(5_000)),
    "five thousand wrong seeds": _TEXT.replace("seeds: ", f"seeds: [{'a, ' * 5_000}a] #", 1),
    "comments": "#" * 900_000,
    "anchors": "a: [" + ", ".join(f"&a{n} x" for n in range(5_000)) + "]",
    "quotes": "'" * 900_000,
    "spaces": " " * 900_000 + "a",
    "tabs": "a:" + "\t" * 900_000 + "b",
    "documents": "---\n" * 200_000,
    "directives": "%A b\n" * 20_000,
    "tags": "a: " + "!a " * 300_000,
    "dates": "a: [" + "2020-01-01, " * 5_000 + "]",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_bounded_time_and_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(BOMBS[name], encoding="utf-8")
    before = peak_mb()
    with bounded(60), pytest.raises(ConfigError) as caught:
        load_config(path)
    _check(str(caught.value))
    assert peak_mb() - before < 800
