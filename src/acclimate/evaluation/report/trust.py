"""The section on whether the data can be trusted: what changed the text, what repeats, what leaks, which labels look wrong."""

from __future__ import annotations

from html import escape

from acclimate.evaluation.report.facts import Cluster, Facts, Json
from acclimate.evaluation.report.markup import Section, badge, details, note, table
from acclimate.evaluation.report.wording import count, number, percent

_CLUSTERS_SHOWN = 8
_MEMBERS_SHOWN = 4
_LABELS_SHOWN = 10
_WORDS_SHOWN = 15


def trust(facts: Facts) -> Section:
    """Decontamination, near-duplicates, personal data, cleaning, doubtful labels, and how the tokenizer fits the domain."""
    if not facts.text:
        return Section("trust", "Trust in the data", "")
    body = _contamination(facts.text) + _clusters(facts.clusters) + _personal(facts.text) + _changed(facts.text)
    return Section("trust", "Trust in the data", body + _labels(facts.label_problems) + _vocabulary(facts))


def _contamination(text: Json) -> str:
    found = text.get("decontamination", {})
    if not found.get("checked"):
        return f"<p>{badge('not checked', 'bad')} Nobody looked for dev and test texts in the corpus; scores may be too high.</p>"
    rules = found["rules"]
    places = ", ".join(f"{escape(place)} {count(dropped)}" for place, dropped in found["dropped_by_place"].items())
    return (
        f"<p>{badge('checked', 'good')} {count(found['documents'])} documents of the corpus against "
        f"{count(found['evaluation_texts'])} dev and test texts, by runs of {rules['ngram']} words: "
        f"{count(found['documents_dropped'])} dropped that share "
        f"{percent(rules['threshold'])} or more{f' ({places})' if places else ''}.</p>"
    )


def _clusters(clusters: list[Cluster]) -> str:
    if not clusters:
        return "<p>No near-duplicates.</p>"
    leaving = [cluster for cluster in clusters if cluster.kept < len(cluster.members)]
    across = sum(len({member.place for member in cluster.members}) > 1 for cluster in clusters)
    left = sum(len(cluster.members) - cluster.kept for cluster in clusters)
    told = (
        f"<p>{count(len(clusters))} clusters of near-duplicates, {count(across)} with rows of several splits or tables (one text may serve "
        f"several tasks). In {count(len(leaving))} of them {count(left)} rows left for one that stays.</p>"
    )
    shown = sorted(leaving, key=lambda cluster: -len(cluster.members)) + sorted(clusters, key=lambda cluster: -len(cluster.members))
    rows = []
    for number_, cluster in enumerate(list(dict.fromkeys(shown))[:_CLUSTERS_SHOWN], start=1):
        for member in cluster.members[:_MEMBERS_SHOWN]:
            similarity = "\u2013" if member.similarity is None else number(member.similarity, 2)
            rows.append([str(number_), escape(member.place), escape(member.id), escape(member.reason or "stays"), similarity])
        if len(cluster.members) > _MEMBERS_SHOWN:
            rows.append([str(number_), f"and {count(len(cluster.members) - _MEMBERS_SHOWN)} more", "", "", ""])
    return told + details(
        "Near-duplicates", table(["cluster", "place", "row", "", "similarity"], rows, text_columns=4) + note("All in duplicates.parquet.")
    )


def _personal(text: Json) -> str:
    found = text.get("personal_data", {})
    if found.get("mode", "off") == "off":
        return note("Personal data was not looked for.")
    rows = [
        [escape(name), escape(kind), count(number_)] for name, kinds in found["found"].items() for kind, number_ in kinds.items() if number_
    ]
    done = "replaced" if found["mode"] == "redact" else "flagged"
    return table([f"personal data, {done}", "kind", "found"], rows, text_columns=2) if rows else note("No personal data found.")


def _changed(text: Json) -> str:
    rows = [
        [escape(name), escape(rule.replace("_", " ")), count(number_)]
        for name, rules in text.get("changed", {}).items()
        for rule, number_ in rules.items()
        if number_
    ]
    return table(["text cleaned of", "rule", "documents changed"], rows, text_columns=2) if rows else ""


def _labels(problems: Json) -> str:
    parts = []
    for task, found in problems.items():
        judge = found.get("judge", {})
        if not found["listed"]:
            continue
        rows = [
            [
                str(each["rank"]),
                escape(each["id"]),
                escape(each["split"]),
                escape(each["given"]),
                escape(each["suggested"]),
                escape(each["text"]),
            ]
            + [number(each["score"], 2)]
            for each in found["listed"][:_LABELS_SHOWN]
        ]
        told = f"{count(found['problems'])} of {count(found['rows'])} rows"
        if judge:
            told += (
                f"; judged by out-of-fold TF-IDF, right in {percent(judge['accuracy'])} "
                f"(most frequent answer {percent(judge['of_the_most_frequent'])}): a list to look at, not a verdict"
            )
        head = ["", "row", "split", "given", "suggested", "text", "doubt"]
        parts.append(details(f"Doubtful labels of {task}", table(head, rows, text_columns=6) + note(escape(told) + ".")))
    return "".join(parts)


def _vocabulary(facts: Facts) -> str:
    found = facts.tokenized.get("vocabulary", {})
    if not found:
        return ""
    rows = [
        [escape(name), count(each["words"]), number(each["tokens_per_word"], 3), percent(each["unknown_share"], 3)]
        for name, each in found.items()
        if isinstance(each, dict)
    ]
    broken = [
        [escape(each["word"]), escape(" ".join(each["pieces"])), count(each["count"])]
        for each in found.get("corpus", {}).get("most_broken", [])[:_WORDS_SHOWN]
    ]
    body = table(["how the tokenizer fits", "words", "tokens per word", "unknown tokens"], rows)
    if broken:
        body += details("Words that it breaks most", table(["word", "pieces", "times"], broken, text_columns=2))
    return body
