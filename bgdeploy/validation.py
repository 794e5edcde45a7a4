"""A YAML tree against a JSON Schema: typed data, and every problem in our own words with its line. Pure.

Only the schema decides whether `10` is a number or text: a plain scalar becomes a number where a number is wanted and it
is written in plain digits, true or false where that is wanted, and stays text everywhere else.
"""

import re
from dataclasses import dataclass

import jsonschema

from bgdeploy.clean import mask
from bgdeploy.did_you_mean import hint, nearest
from bgdeploy.strict_yaml import Mapping, Scalar, Sequence

MANY = 50       # more unknown keys of one mapping are not looked at: this is no inventory
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,14})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?")
_LOGIN = re.compile(r"((?:^|[\s,])[^\s:/@]+):(?!//)[^\s@]+@")     # user:password@host without a scheme, which mask does not know
_READS_AS = {"int": "a whole number", "float": "a number", "timestamp": "a date", "bool": "true or false"}
_KIND = {dict: "a mapping", list: "a list", bool: "true or false", type(None): "nothing"}


@dataclass(frozen=True)
class Problem:
    """:param path: keys and list positions. :param late: one that earlier problems may be the cause of."""

    line: int
    path: tuple
    what: str
    cure: str
    late: bool = False

    def __str__(self):
        where = show(self.path)
        return f"{self.line}: " + (f"{where}: " if where else "") + self.what + (f"; {self.cure}" if self.cure else "")


def examine(tree, schema):
    """Read a tree as the schema says.

    :returns: (data, problems): dicts, lists, text, numbers, booleans and None; problems in the file's order, those of
        missing keys last. Data are only worth reading where there is no problem.
    """
    problems = []
    data = _convert(tree, schema, (), problems)
    spoiled = {problem.path for problem in problems}
    for error in jsonschema.Draft7Validator(schema).iter_errors(data):
        problems += [p for p in _word(error, tree) if p.path not in spoiled]
    return data, sorted(dict.fromkeys(problems), key=lambda problem: (problem.late, problem.line))


def line_of(tree, path):
    """The line of the key or item at this path, or of the nearest thing around it that is there."""
    line = tree.line
    for step in path:
        if isinstance(tree, Mapping) and step in tree.entries:
            line, tree = tree.entries[step]
        elif isinstance(tree, Sequence) and isinstance(step, int) and step < len(tree.items):
            tree = tree.items[step]
            line = tree.line
        else:
            break
    return line


def show(path):
    """'closed_hours[0].zone'."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else ("." if text else "") + _short(step)
    return text


def _short(value):
    text = _LOGIN.sub(r"\1:***@", mask(str(value)))
    return text if len(text) <= 60 else text[:57] + "..."


def _alternatives(schema):
    return schema.get("anyOf", [schema])


def _types(schema):
    kinds = set()
    for alternative in _alternatives(schema):
        kind = alternative.get("type", ())
        kinds |= {kind} if isinstance(kind, str) else set(kind)
    return kinds


def _fitting(schema, kind):
    """The alternative for this kind of value, or an empty schema."""
    return next((a for a in _alternatives(schema) if kind in _types(a)), {})


def _convert(node, schema, path, problems):
    if isinstance(node, Mapping):
        fitting = _fitting(schema, "object")
        known, rest = fitting.get("properties", {}), fitting.get("additionalProperties")
        rest = rest if isinstance(rest, dict) else {}
        return {key: _convert(value, known.get(key, rest), path + (key,), problems) for key, (_, value) in node.entries.items()}
    if isinstance(node, Sequence):
        items = _fitting(schema, "array").get("items", {})
        return [_convert(item, items, path + (position,), problems) for position, item in enumerate(node.items)]
    return _scalar(node, schema, path, problems)


def _scalar(node, schema, path, problems):
    if node.quoted:
        return node.text
    kinds = _types(schema)
    if node.reads_as == "null":
        return None
    if "boolean" in kinds and node.text in ("true", "false"):
        return node.text == "true"
    if "integer" in kinds and _WHOLE.fullmatch(node.text):
        return int(node.text)
    if "number" in kinds and _NUMBER.fullmatch(node.text):
        return float(node.text) if "." in node.text else int(node.text)
    if schema.get("format") == "version" and node.reads_as != "str":
        typed, read = _short(node.text), _READS_AS.get(node.reads_as, node.reads_as)
        problems.append(Problem(node.line, path, f"{typed} without quotes may be read as {read}", f'write "{typed}" in quotes'))
    return node.text


def _word(error, tree):
    """Our sentence, or sentences, for one error of jsonschema's."""
    path = tuple(error.absolute_path)
    if error.validator == "anyOf":
        return _word_alternatives(error, tree, path)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = [key for key in error.instance if key not in known]
        return [_unknown_key(tree, path + (key,), known) for key in unknown[:MANY]]
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return [Problem(line_of(tree, path), path + (key,), "is missing", _add(error.schema, key), late=True) for key in missing]
    if len(error.schema_path) > 1 and error.schema_path[-2] == "propertyNames":
        return [_bad_name(error, tree, path)]
    line = line_of(tree, path)
    if error.validator in ("minItems", "minProperties"):
        return [Problem(line, path, "is empty", f"name at least one: it wants {error.schema['description']}")]
    if error.validator == "uniqueItems":
        twice = next(item for n, item in enumerate(error.instance) if item in error.instance[:n])
        return [Problem(line, path, f"names {_short(twice)} twice", "delete one")]
    return [Problem(line, path, *_bad_value(_node(tree, path), error.instance, error.schema))]


def _word_alternatives(error, tree, path):
    kind = {dict: "object", list: "array", int: "integer", str: "string"}.get(type(error.instance))
    alternatives = error.validator_value
    chosen = next((n for n, a in enumerate(alternatives) if kind in _types(a)), None)
    causes = [cause for cause in error.context if cause.schema_path[0] == chosen]
    if not causes or kind == "string":
        return [Problem(line_of(tree, path), path, *_bad_value(_node(tree, path), error.instance, error.schema))]
    return [problem for cause in causes for problem in _word(cause, tree)]


def _unknown_key(tree, path, known):
    key = path[-1]
    if key in ("version", "versions") and key not in known:
        cure = 'versions stand at the top: versions: {web: "1.10"}, in quotes'
    else:
        cure = hint(key, known)
    return Problem(line_of(tree, path), path, "there is no such key", cure)


def _add(schema, key):
    wanted = schema.get("properties", {}).get(key, {}).get("description")
    return f"add it: it wants {wanted}" if wanted else "add it (inventories/sample.yml shows how)"


def _bad_name(error, tree, path):
    name = error.instance
    wanted = error.schema.get("description", "a name")
    return Problem(line_of(tree, path + (name,)), path, f'"{_short(name)}" cannot be a name here', f"it wants {wanted}")


def _node(tree, path):
    for step in path:
        tree = tree.entries[step][1] if isinstance(tree, Mapping) else tree.items[step]
    return tree


def _bad_value(node, value, schema):
    """(what, cure) for a value of the wrong kind or out of its limits."""
    wanted = schema.get("description") or f"a {schema.get('type', 'value')}"
    if value is None:
        return "has no value", f"write {wanted}, or take the key out"
    if isinstance(value, (dict, list)):
        return f"is {_KIND[type(value)]}", f"it wants {wanted}"
    typed = _short(node.text) if isinstance(node, Scalar) else _short(value)
    kinds = _types(schema)
    if schema.get("writeOnly"):
        return "is not right", f"it wants {wanted}, never the secret itself"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < 0:
            return f"{typed} is negative", f"it wants {wanted}"
        return f"{typed} is out of range", _limits(value, schema, wanted)
    if "enum" in schema:
        close = nearest(value, schema["enum"])
        return f'"{typed}" is not known', f"did you mean {close}?" if close else f"it wants {wanted}"
    if kinds & {"integer", "number"} and "string" not in kinds:
        return f'"{typed}" is not a number in plain digits', _plain_digits(node, kinds, wanted)
    if kinds == {"boolean"}:
        return f'"{typed}" is neither true nor false', "write true or false, without quotes"
    return (f'"{typed}" is not right' if typed else "is empty"), f"it wants {wanted}"


def _limits(value, schema, wanted):
    if value > schema.get("maximum", value) and " to " not in wanted:
        return f"it wants {wanted}, at most {schema['maximum']}"
    return f"it wants {wanted}" + (f", more than {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else "")


def _plain_digits(node, kinds, wanted):
    if isinstance(node, Scalar) and node.quoted and _NUMBER.fullmatch(node.text):
        return f"write {node.text} without quotes"
    return f"it wants {wanted}" + (", such as 30 or 0.5" if "number" in kinds else "")
