"""Settings from the environment and from flags, which override those of the file."""

from collections.abc import Mapping

from broker.config.findings import Findings, suggest
from broker.config.foreign import PREFIX, is_foreign
from broker.config.keys import Key, Schema, nearest_key
from broker.config.settings import Settings
from broker.output.text import is_utf8

CLIENT_VARIABLES = frozenset({"GREENROOM_URL", "GREENROOM_TOKEN", "GREENROOM_CONFIG"})
"""Variables of the command line, which set no key."""


def from_environment(environ: Mapping[str, str], schema: Schema) -> Findings:
    """Read every variable that begins with `GREENROOM_`; lists are separated by commas.

    Foreign ones, such as Kubernetes' for a service of that name, are ignored.
    """
    findings = Findings()
    keys = {key.long_variable: key for key in schema.known_keys()}
    keys |= {key.variable: key for key in schema.known_keys()}
    for variable in sorted(set(environ) - CLIENT_VARIABLES):
        if variable in keys:
            _add_variable(findings, keys[variable], variable, environ)
        elif variable.startswith(PREFIX) and not is_foreign(variable, environ[variable], schema):
            findings.note(variable, _unknown_variable(variable, schema))
    return findings


def from_flags(flags: Mapping[str, object], schema: Schema) -> Findings:
    """Read flags by the dotted key that each sets; None means that the flag was not given.

    The flag of `server.port` is called `--port`, and that of `server.tls_cert_file` `--tls-cert`.
    """
    findings = Findings()
    for dotted, value in flags.items():
        key = schema.find(dotted)
        if key is None:
            findings.note(dotted, suggest(nearest_key(dotted, schema.known_keys())))
        elif value is not None:
            findings.add(key, value, "--" + key.name.removesuffix("_file").replace("_", "-"))
    return findings


def _add_variable(findings: Findings, key: Key, variable: str, environ: Mapping[str, str]) -> None:
    if variable != key.variable and key.variable in environ:
        findings.note(variable, f"sets {key.dotted}, which {key.variable} sets as well: keep one of them")
        return
    text = environ[variable]
    if not is_utf8(text):
        findings.note(variable, f"sets {key.dotted}, which must be UTF-8")
        return
    value = [part.strip() for part in text.split(",") if part.strip()] if key.is_list else text
    if value == [] and getattr(getattr(Settings(), key.section), key.name):
        # In a file [] may be meant; an empty variable is left by a template.
        findings.note(variable, f"sets {key.dotted}, which is empty: give it a value, or leave it out")
        return
    findings.add(key, value, variable, strict=False)


def _unknown_variable(variable: str, schema: Schema) -> str:
    asked = variable.removeprefix(PREFIX).lower().replace("__", ".", 1)
    if any(asked == name or asked.startswith((f"{name}.", f"{name}_")) for name in schema.lists):
        return "no such variable; tables in lists are set in the file only"
    key = nearest_key(asked, schema.known_keys())
    return f"no such variable; the nearest known is {key.variable} ({key.description}), {key.allowed}"
