"""Pages from templates; whatever is put into them is text, never markup, unless the template says so."""

from importlib import resources
from typing import Any

import jinja2


def rendered(template: str, **values: Any) -> str:
    """Return a page; raises jinja2.UndefinedError if the template asks for something that is not in `values`."""
    text = (resources.files("benchmarks") / "templates" / template).read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(text).render(**values)
