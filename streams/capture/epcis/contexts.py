"""JSON-LD contexts of EPCIS documents and events: their checks, and the prefixes that they define.

A context is a URL, a mapping of prefixes, or a list of these. URLs are known by name; nothing is ever fetched.
"""

from collections.abc import Mapping
from typing import Any, Final

from streams.capture.epcis.checks import Checker, format_value
from streams.capture.epcis.vocabulary import CBV, GS1_VOC

# The context that defines the words of EPCIS 2.0.
STANDARD_CONTEXT: Final = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"
# The URLs of contexts that are accepted.
KNOWN_CONTEXTS: Final = frozenset(
    {
        "https://ref.gs1.org/standards/epcis/epcis-context.jsonld",
        STANDARD_CONTEXT,
        "https://ref.gs1.org/standards/epcis/2.0.1/epcis-context.jsonld",
        "https://ref.gs1.org/standards/epcis/2.0/epcis-context.jsonld",
        "https://gs1.github.io/EPCIS/epcis-context.jsonld",
        "https://gs1.github.io/EPCIS/epcis-context-simple.jsonld",
        "https://id.gs1.org/epcis-context.jsonld",
        "https://dev.epcis.io/context",
        "https://origintrail.github.io/epcis/epcis-context.jsonld",
    }
)
# Limits of one document or event: its contexts, and the terms that they define. Each stored event keeps all of them.
MAX_CONTEXTS: Final = 50
MAX_TERMS: Final = 200
# The prefixes that the standard context defines. The event hash of CBV 2.0 uses these spellings.
STANDARD_PREFIXES: Final = {
    "epcis": "https://ref.gs1.org/epcis/",
    "cbv": CBV,
    "gs1": GS1_VOC,
    "cbvmda": "urn:epcglobal:cbv:mda",
}


def context_namespaces(*contexts: Any) -> dict[str, str]:
    """Prefix -> namespace of these contexts and of the standard context."""
    return STANDARD_PREFIXES | context_terms(*contexts)


def context_terms(*contexts: Any) -> dict[str, str]:
    """Prefix -> namespace of these contexts alone, up to the limit of terms."""
    terms: dict[str, str] = {}
    for context in contexts:
        for part in context if isinstance(context, list) else [context]:
            if isinstance(part, Mapping) and len(terms) + len(part) <= MAX_TERMS:
                terms.update({key: value for key, value in part.items() if isinstance(value, str)})
    return terms


def check_context(checker: Checker, path: str, value: Any) -> None:
    """Check the value of an @context; violations go to `checker`."""
    parts = value if isinstance(value, list) else [value]
    # The context of an event within a document may be empty.
    if path == "@context" and not any(part or not isinstance(part, Mapping | str) for part in parts):
        checker.add_violation(
            path, "context", f"is empty, so that no word of the document is defined: use {STANDARD_CONTEXT}"
        )
        return
    if any(part in parts[:index] for index, part in enumerate(parts[:MAX_CONTEXTS])):
        checker.add_violation(path, "unique-items", "has a context twice")
    if len(parts) > MAX_CONTEXTS:
        checker.add_violation(path, "context", f"has {len(parts):,} contexts; at most {MAX_CONTEXTS} are accepted")
    term_count = sum(len(part) for part in parts if isinstance(part, Mapping))
    if term_count > MAX_TERMS:
        checker.add_violation(path, "context", f"defines {term_count:,} terms; at most {MAX_TERMS} are accepted")
    for index, part in enumerate(parts):
        part_path = f"{path}[{index}]" if isinstance(value, list) else path
        if isinstance(part, Mapping):
            for key, definition in part.items():
                if key in ("@import", "@base"):
                    checker.add_violation(
                        f"{part_path}.{key}", "context", f"{key} would change the meaning of other words: leave it out"
                    )
                elif not key.startswith("@") and not isinstance(definition, Mapping | str | None):
                    checker.add_violation(
                        f"{part_path}.{key}", "context", "must be a URI or a JSON-LD object that defines the term"
                    )
        elif checker.text(part_path, part) and part not in KNOWN_CONTEXTS:
            checker.add_violation(
                part_path,
                "context",
                f"{format_value(part)} is not a known context, and contexts are never fetched: define its prefixes in "
                f"an object, and use {STANDARD_CONTEXT}",
            )
