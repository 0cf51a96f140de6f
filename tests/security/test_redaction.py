import pytest

from acclimate.redaction import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a.csv", "s3://bucket/a.csv"),
        ("https://user:token@host:8080/a?b=1#c", "https://***@host:8080/a?b=***#c"),
        ("https://token@host/a", "https://***@host/a"),
        ("failed: postgresql://u:p%40ss@db/x, https://h/a?sig=A%2FB&se=2", "failed: postgresql://***@db/x, https://h/a?sig=***&se=***"),
        ("simplecache::https://u:p@h/a?X-Amz-Signature=9", "simplecache::https://***@h/a?X-Amz-Signature=***"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_a_url_is_redacted(text: str, expected: str) -> None:
    assert redact(text) == expected
