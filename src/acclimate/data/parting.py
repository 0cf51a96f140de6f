"""How the rows of a table are parted: groups, splits, and rows that leave because they stand in another place too."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from acclimate import kinds
from acclimate.data.leakage.pairs import pair_groups, shared_texts
from acclimate.data.leakage.splits import SPLIT_NAMES, Split, require_split_names, split_of, splits_by_time, stratified_splits
from acclimate.data.options import SplitFiles, TaskConfig
from acclimate.data.quarantine import Quarantine
from acclimate.data.rows import SPLITS, LoadedTable, Row
from acclimate.errors import DataError

logger = logging.getLogger(__name__)


def part_rows(rows: Sequence[Row], loaded: LoadedTable, quarantine: Quarantine, *, where: str, seed: int) -> None:
    """Give each row its split; leave out rows without text, and copies.

    Raises:
        DataError: a split that is unknown, or a group in two of them.
    """
    if loaded.kind.pair:
        free = [row for row in rows if not row.has_group]
        for row, group in zip(free, pair_groups([row.texts for row in free]), strict=True):
            row.group = group
    loaded.by_split = _split(rows, loaded.config, where, seed)
    _drop_empty(loaded, quarantine)
    _drop_copies(loaded, quarantine, where)
    if loaded.kind.pair:
        _report_shared_texts(loaded, where)


def _split(rows: Sequence[Row], config: TaskConfig, where: str, seed: int) -> dict[Split, list[Row]]:
    by_split: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    require_split_names((row.given_split for row in rows if row.given_split is not None), where=f"{where}: column {config.split!r}")
    shares = _shares_of_train(rows, config, where)
    assigned = _assign([row for row in rows if row.given_split is None], config, seed)
    for row in rows:
        if row.given_split is None:
            by_split[assigned[row.group]].append(row)
        elif shares and SPLIT_NAMES[row.given_split] == "train":
            by_split[split_of(row.group, dev_share=shares["dev"], test_share=shares["test"], seed=seed)].append(row)
        else:
            by_split[SPLIT_NAMES[row.given_split]].append(row)
    if config.group:
        _refuse_parted_groups(by_split, config.group, where)
    return by_split


def _shares_of_train(rows: Sequence[Row], config: TaskConfig, where: str) -> dict[str, float]:
    """The shares of the training groups that go to splits which the table does not have; none where it has them all, or gives none."""
    given = {SPLIT_NAMES[row.given_split] for row in rows if row.given_split is not None}
    if not given:
        return {}
    if "train" not in given:
        raise DataError(f"{where}: no row of the split train; the rows are of {', '.join(sorted(given))}")
    shares = {"dev": 0.0 if "dev" in given else config.dev_share, "test": 0.0 if "test" in given else config.test_share}
    if isinstance(config.data, SplitFiles) and config.data.dev is not None:
        shares["dev"] = 0.0
    for split, share in shares.items():
        if share:
            logger.info("%s: no row of the split %s is given; %g of the training groups become it (%s_share)", where, split, share, split)
    return shares if any(shares.values()) else {}


def _assign(free: Sequence[Row], config: TaskConfig, seed: int) -> dict[str, Split]:
    """The split of each group that has none given."""
    groups = [row.group for row in free]
    shares = {"dev_share": config.dev_share, "test_share": config.test_share}
    if config.split_by == "stratified":
        return stratified_splits(groups, [kinds.table(config.kind).label_names(row.label) for row in free], seed=seed, **shares)
    if config.split_by == "time":
        return splits_by_time(groups, [row.time or 0.0 for row in free], **shares)
    return {group: split_of(group, seed=seed, **shares) for group in groups}


def _refuse_parted_groups(by_split: dict[Split, list[Row]], column: str, where: str) -> None:
    seen: dict[str, Split] = {}
    for split, rows in by_split.items():
        for row in rows:
            if seen.setdefault(row.group, split) != split:
                raise DataError(
                    f"{where}: group {row.group!r} (column {column!r}) stands in {seen[row.group]} and in {split}; it belongs to one"
                )


def _drop_empty(loaded: LoadedTable, quarantine: Quarantine) -> None:
    for split, rows in loaded.by_split.items():
        for row in rows:
            if not all(text.strip() for text in row.texts):
                quarantine.add(loaded.table, row.source, row.number, row.id, "empty_text", "")
        loaded.by_split[split] = [row for row in rows if all(text.strip() for text in row.texts)]


def _drop_copies(loaded: LoadedTable, quarantine: Quarantine, where: str) -> None:
    """Test keeps its rows, dev loses what is in test, train what is in either; inside a split the first row stays.

    Of a pair and the same the other way round, with another label, both stay inside a split: what is asked may have a direction.
    """
    seen: dict[str, tuple[Split, Row]] = {}
    turned = 0
    for split in ("test", "dev", "train"):
        kept: list[Row] = []
        in_order: dict[str, Row] = {}
        for row in _majority_first(loaded.by_split[split], f"{where}: {split}"):
            first_split, first = seen.setdefault(loaded.key(row), (split, row))
            same = in_order.setdefault(row.key, row)
            if first is row:
                kept.append(row)
                continue
            if first_split == split and same is row and first.label != row.label:
                turned += 1
                kept.append(row)
                continue
            rule = f"also_in_{first_split}" if first_split != split else "duplicate" if same.label == row.label else "label_conflict"
            quarantine.add(
                loaded.table, row.source, row.number, row.id, rule, row.text, "" if row.key == first.key else f"turned {first.id}"
            )
        loaded.by_split[split] = kept
    if turned:
        logger.warning("%s: %d pairs stand in both orders with different labels; both stay. Right only where order matters", where, turned)


def _majority_first(rows: Sequence[Row], where: str) -> list[Row]:
    """The rows, but of equal texts with different labels one of the most frequent label stands first, so that it stays."""
    labels: dict[str, Counter[str]] = {}
    for row in rows:
        labels.setdefault(row.key, Counter())[repr(row.label)] += 1
    disputed = {key: counts.most_common(2) for key, counts in labels.items() if len(counts) > 1}
    if not disputed:
        return list(rows)
    tied = sum(first[1] == second[1] for first, second in disputed.values())
    shown = f"; {tied} of them have no most frequent label, and keep the first" if tied else ""
    logger.warning(
        "%s: %d texts stand with different labels; the most frequent one stays (`label_conflict`)%s", where, len(disputed), shown
    )
    ordered = list(rows)
    places: dict[str, int] = {}
    for place, row in enumerate(rows):
        first = places.setdefault(row.key, place)
        if row.key in disputed and repr(ordered[first].label) != disputed[row.key][0][0] == repr(row.label):
            ordered[first], ordered[place] = row, ordered[first]
    return ordered


def _report_shared_texts(loaded: LoadedTable, where: str) -> None:
    """Tell how many pairs of dev and test have a text that is trained on in another pair."""
    trained = [row.texts for row in loaded.by_split["train"]]
    for split in ("dev", "test"):
        rows = loaded.by_split[split]
        if shared := shared_texts(trained, [row.texts for row in rows]):
            logger.info(
                "%s: %d of %d %s pairs have a text that is in a training pair too; `group` parts them", where, shared, len(rows), split
            )
