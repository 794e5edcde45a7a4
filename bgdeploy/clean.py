"""One filter in front of every output: control characters out, secrets masked, length capped. Text in, text out.

Nothing here prints or opens anything. The only state is the set of values that `hide` was told.
Patterns never cross a line and are bounded, so that a megabyte of junk from a host costs milliseconds (tested).
"""

import base64
import html
import json
import re
from urllib.parse import quote

MARK = "***"

# CSI, OSC and friends (ECMA-48), in their 7-bit and their 8-bit spelling. An OSC that is never ended loses only its
# introducer: what follows may be the one line that explains the failure.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\r\n]{0,2000}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]{1,4}[0-~]|\x1b[0-Z\\\]^_`a-~]")
_BREAK = re.compile("\r+\n?|[\u2028\u2029\x85]")
# C0 without tab and newline, DEL, C1; soft hyphen and invisible or direction-changing characters; tags; non-characters.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\U000e0000-\U000e007f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# The name of a value that nobody may read. `key` alone is a word of everyday prose: only with `=`, or with a prefix.
_NAME = (r"[\w.\-]{0,60}?(?:passwor[dt]|kennwort|passwd|passphrase|passcode|requirepass|masterauth|_auth"
         r"|secret|token|credentials?|cookie"
         r"|(?:api|access|private|secret|signing|encryption|auth|account|master|shared)[_.\-]?key"
         r"|(?:[_.\-]|db|user|smtp|ldap|bind|ftp|root|admin|key|store)(?:pass|pwd|pw)(?![a-z]))(?:[_.\-]?\w{1,20})?")
# ... and what it may end in without being the value itself: where it lies, how long it lives.
_REFERENCE = re.compile(r"(?i)[_.\-]?(?:file|env|path|dir|directory|expiry|expires|length|size|age|ttl|type|policy|"
                        r"header|host|url|uri|less|s?_?name)$")
_PUBLIC = re.compile(r"(?i)(?:public|gpg|host|primary|foreign|cache|partition|sort|pub|json|shard|group|duplicate)[_.\-]?key$")
_PROSE = frozenset("a an and as at belongs by cannot could denied did does empty expected false for from give has if in is "
                   "it may missing must needs nil no none not null of on or permission put read refused see set so than that "
                   "the then there this to true type unknown use was were what which with write wrong".split())

_QUOTED = r'\\"(?:[^"\\\n]|\\[^"]){0,4000}(?:\\")?|"(?:[^"\\\n]|\\.){0,4000}"?|' + r"'(?:[^'\\\n]|\\.){0,4000}'?"
_PAIR = re.compile(rf"(?i)(?<![\w.\-])(?P<name>{_NAME}"
                   rf"|(?:auth|pass|pwd|pw)(?=\\{{0,7}}[\"'][ \t]*:)|(?:[\w.\-]{{0,40}}key|pass|pwd|pw)(?=[\"'\]]{{0,2}}[ \t]*=)"
                   rf"|(?<=[?&])(?:x-\w{{1,9}}-)?sig(?:nature)?(?==))"
                   rf"(?P<sep>(?:\\{{0,7}}[\"'])?\]?[ \t]*(?:=>|:=|[:=])[ \t]*)"
                   rf"(?P<value>{_QUOTED}|\[[^\[\]\n]{{1,4000}}\]|[^\s]{{1,4000}})")
# A line of a configuration file, a diff or `sh -x`: everything after the sign is the value, blanks and all.
_LINE = re.compile(rf"(?im)^(?P<head>[ \t]{{0,80}}[+\-]{{0,6}}[ \t]{{0,80}}(?:export[ \t]+|set[ \t]+|env[ \t]+)?'?)"
                   rf"(?P<name>{_NAME})(?P<sep>[ \t]*=[ \t]*)(?P<value>[^\n]+)$")
# ... of files without a sign, as redis, netrc and Chef's own recipes have it: a word, a blank, the value.
_WORD = re.compile(rf"(?im)^(?P<head>[ \t]{{0,80}}[+\-]{{0,6}}[ \t]{{0,80}}|.{{0,200}}\blogin[ \t]+\S{{1,100}}[ \t]+)"
                   rf"(?P<name>{_NAME})(?P<sep>[ \t]+)(?P<value>{_QUOTED}|[^\s=:]\S{{0,4000}})[ \t]{{0,80}}$")
_SHORT = re.compile(r"(?im)^(?P<head>[ \t]{0,80}[+\-]{0,6}[ \t]{0,80})(?P<name>pass|pwd|pw)"
                    r"(?P<sep>[ \t]*:[ \t]+)(?P<value>\S{1,4000})$")
# ... and of a block of YAML, whose lines are further to the right than its name.
_BLOCK = re.compile(rf"(?im)^(?P<head>[+\-]?(?P<dent>[ \t]{{0,80}}))(?P<name>{_NAME})"
                    rf"(?P<sep>[ \t]*:[ \t]*[|>][+\-\d]{{0,2}})[ \t]*\n"
                    rf"(?:[+\-]?(?P=dent)[ \t]+[^\n]*(?:\n|\Z)){{1,200}}")
# ... and of lists, in YAML or JSON, and of JSON whose value has a line of its own.
_BELOW = re.compile(rf"(?im)^(?P<head>[ \t+\-]{{0,80}}[\"']?)(?P<name>{_NAME})(?P<sep>[\"']?[ \t]*:[ \t]*\[?)[ \t]*\n"
                    rf"(?P<value>(?:[ \t+\-]{{0,80}}(?:(?<=-)[ \t][^\n]{{1,4000}}|(?:{_QUOTED})[ \t]*,?)(?:\n|\Z)){{1,200}})")
_OPTION = re.compile(rf"(?i)(?<![\w\-])(?P<name>--?{_NAME})(?P<sep>[ \t]+)(?P<value>{_QUOTED}|[^\s\-]\S{{0,4000}})")
_HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization|set-cookie|cookie)([\"']?[ \t]*(?:=>|[:=])[ \t]*)[^\n]+")
_SCHEME = re.compile(r"\b(Bearer|Basic|bearer|basic)([ \t]+)(?=\S{0,200}\d|\S{0,200}=|[A-Za-z]{0,200}[a-z][A-Z])"
                     r"[\w.~+/=\-]{6,2000}")
_URL = re.compile(r"(?P<head>\b[A-Za-z][A-Za-z0-9+.\-]{0,20}://[^\s/:@\"'<>]{0,200}):"
                  r"(?!\d{1,5}(?:[/?#,;.)\]\"']|\s|$))[^\s\"'<>]{1,300}@")
_URL_TOKEN = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.\-]{0,20}://)[\w\-]{16,300}@")
# Programs that take it without a name, and values that say by their shape what they are.
_REST = r"[^\n|;]{0,200}?[ \t]"
_PROGRAM = re.compile(rf"(?i)(\bdefine\([ \t]*[\"']{_NAME}[\"'][ \t]*,[ \t]*(?=[\"'])"
                      rf"|\b(?:key|name)=[\"']{_NAME}[\"'][ \t]+value=(?=[\"'])"
                      rf"|\b(?:redis-cli\b{_REST}-a|ldap\w{{1,20}}\b{_REST}-w|docker[ \t]+login\b{_REST}-p|sshpass[ \t]+-p)[ \t]*"
                      rf"|\b(?:mysql|mariadb)[\w\-]{{0,20}}\b{_REST}-p(?=\S)|[ \t]-pass(?:in|out)?[ \t]+pass:"
                      rf"|\bcurl\b{_REST}(?:-u|--user)[ \t=]*[\"']?[^\s:\"']{{1,100}}:"
                      r"|\b(?:password|passphrase)[ \t]+(?:(?:is|to|was)[ \t]+(?=[\"'])|(?='))"
                      r"|\bidentified[ \t]+(?:with[ \t]+\S{1,60}[ \t]+)?(?:by|as)[ \t]+)"
                      rf"(?:{_QUOTED}|[^\s;]{{1,400}})")
_SHAPE = re.compile(r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[oprsu]_\w{20,255}|github_pat_\w{20,255}|glpat-[\w\-]{16,64}"
                    r"|xox[abeprs]-[\w\-]{10,255}|(?:sk|rk)_live_\w{10,255}|AIza[\w\-]{35}|npm_\w{36}|hvs\.[\w\-]{20,255}"
                    r"|pypi-[\w\-]{16,255}|SG\.[\w\-]{16,64}\.[\w\-]{16,64}|(?<=hooks\.slack\.com/services/)[\w/]{10,255}"
                    r"|eyJ[\w\-]{8,2000}\.[\w\-]{4,4000}\.[\w\-]{4,1000})"
                    r"|\$(?:1|2[abxy]|5|6|y|apr1|argon2\w{1,2})\$[./\w$=,+]{20,200}")
_ELEMENT = re.compile(r"(?i)<([\w.\-:]{0,40}(?:password|passwd|secret|token|api-?key)[\w.\-]{0,20})>[^<\n]+")
_BASE64 = re.compile(r"[ \t+\-|]{0,80}[A-Za-z0-9+/=]{1,200}[ \t]{0,20}")
_PEM_END = re.compile(r"^[^\n]{0,80}-----END [A-Z ]{0,40}PRIVATE KEY", re.M)
_PEM = re.compile(r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----)"
                  r".*?(-----END [A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----|\Z)", re.S)

_HINT = re.compile(r"(?i)pass|secret|token|credential|cookie|key|pwd|pw|://"
                   r"|auth|bearer|basic|kennwort|identified|curl|mysql|mariadb"
                   r"|AKIA|ASIA|gh[oprsu]_|glpat|xox|_live_|eyJ|\$\w{1,8}\$|AIza|npm_|hvs\.|pypi-|SG\.|redis-cli|ldap|docker")

_ROOM = 40                  # what "... 123456789012 bytes cut ..." needs
_EARLIER = re.compile(r"\.\.\. (\d{1,15}) bytes cut \.\.\.\s?")

_hidden = ()


def hide(value):
    """Let `mask` know a value that must never be shown, in every spelling in which it could come back to us.

    :param value: a credential as text. Fewer than four characters would blacken half of every text: those are left.
    """
    global _hidden
    value = _SURROGATE.sub("\ufffd", value or "")       # as `plain` will show it
    parts = [value, *value.splitlines()] if value else []
    forms = set(_hidden)
    for part in (p.strip() for p in parts):
        if len(part) < 4 or set(part) <= set("*."):
            continue
        raw = part.encode("utf-8", "replace")
        forms |= {part, quote(part), quote(part, safe=""), json.dumps(part)[1:-1], html.escape(part), repr(part)[1:-1],
                  part.replace("'", "'\\''"), base64.b64encode(raw).decode().rstrip("=")}
    _hidden = tuple(sorted(forms, key=len, reverse=True))


def mask(text):
    """Replace secrets by ***: values beside a telling name, passwords in URLs, Authorization headers, private keys,
    diffs of files that hold such lines, and whatever `hide` was told. Idempotent; never raises on text."""
    for _ in range(4):                      # one rule's work can be what another one was waiting for
        before, text = text, _masked_once(text)
        if text == before:
            break
    return text


def clean(text, cap=2000, lines=None):
    """Make text from elsewhere fit to be shown and kept.

    UTF-8 is decoded with a mark where it is broken; terminal escapes, control, direction and invisible characters go
    (newline and tab stay); secrets are masked before anything is cut, so that half a password never stays behind.

    :param text: str or bytes; anything else is shown as str() shows it, None as "".
    :param cap: the most characters that come back. What is too much is cut from the middle, or from the head when
        `lines` is given, and "... N bytes cut ..." stands there.
    :param lines: keep only so many last lines.
    :returns: str. clean(clean(x)) == clean(x).
    """
    text = plain(text)
    for _ in range(4):                      # masking may lengthen, cutting may bare a line's start: until both are content
        before, text = text, _cut(mask(text), cap, lines)
        if text == before:
            break
    return text


def line(text, cap=500):
    """The same on one line: every run of blanks and line ends becomes one blank."""
    return clean(" ".join(plain(text).split()), cap)


def plain(text):
    """str or bytes without escapes and control characters; nothing is masked or cut."""
    if text is None:
        return ""
    if isinstance(text, (bytes, bytearray, memoryview)):
        text = bytes(text).decode("utf-8", "replace")
    text = _SURROGATE.sub("\ufffd", str(text))
    return _CONTROL.sub("", _BREAK.sub("\n", _ESCAPE.sub("", text)))


def xml_safe(text):
    """Only what XML 1.0 allows as a character; escaping < and & is the writer's work."""
    return _NOT_XML.sub("\ufffd", text)


def _masked_once(text):
    for value in _hidden:
        if value in text:
            text = text.replace(value, MARK)
    if not _HINT.search(text):
        return text
    text = _headless(_PEM.sub(rf"\1 {MARK} \2", text))
    text = _diffs(text)
    text = _HEADER.sub(rf"\1\2{MARK}", text)
    text = _SCHEME.sub(rf"\1\2{MARK}", text)
    text = _URL.sub(rf"\g<head>:{MARK}@", text)
    text = _URL_TOKEN.sub(rf"\1{MARK}@", text)
    text = _ELEMENT.sub(rf"<\1>{MARK}", text)
    text = _SHAPE.sub(MARK, text)
    text = _PROGRAM.sub(rf"\1{MARK}", text)
    text = _BLOCK.sub(rf"\g<head>\g<name>\g<sep>\n\g<dent>  {MARK}\n", text)
    text = _BELOW.sub(_below, text)
    text = _LINE.sub(_masked, text)
    text = _WORD.sub(_lone, text)
    text = _SHORT.sub(_masked, text)
    text = _PAIR.sub(_masked, text)
    return _OPTION.sub(_masked, text)


def _headless(text):
    """A private key of which only the end is left, as in the last lines of an output: the lines before it are the key."""
    end = _PEM_END.search(text)
    if not end or "-----BEGIN" in text[:end.end()]:
        return text
    rows = text[:end.start()].split("\n")[:-1]
    first = len(rows)
    while first and _BASE64.fullmatch(rows[first - 1]) and (first == len(rows) or len(rows[first - 1]) > 15):
        first -= 1              # its last line may be short
    return text if first == len(rows) else "\n".join([*rows[:first], MARK, text[end.start():]])


def _below(match):
    """The lines below a telling name become one mark, unless they are it already, or the name only says where it lies."""
    if _REFERENCE.search(match["name"]) or _PUBLIC.search(match["name"]):
        return match[0]
    return f"{match['head']}{match['name']}{match['sep']} {MARK}\n"


def _lone(match):
    """A word after a telling one: a value if it looks like one (quoted, or no plain word), or stands in a difference."""
    value = match["value"]
    plain_word = value.strip(".,;:)(").isalpha() and "+" not in match["head"] and "-" not in match["head"]
    return match[0] if plain_word else _masked(match)


def _masked(match):
    name, sep, value = match["name"], match["sep"], match["value"]
    head = match.groupdict().get("head") or ""
    if _REFERENCE.search(name) or _PUBLIC.search(name) or (name.lower() == "key" and "=" not in sep):
        return match[0]
    bare = value.strip("\"'`.,;:)(")
    if not bare or value.startswith(MARK) and value.strip("*,;)]}") in ("", "@"):
        return match[0]
    if (":" in sep or not sep.strip()) and (bare.lower() in _PROSE or re.fullmatch(r"[45]\d\d", bare)):
        return match[0]                     # "refused the token: 401", "the password: set it in ..." are sentences
    quote_mark = next((q for q in ('\\"', '"', "'") if value.startswith(q)), "")
    closed = quote_mark if len(value) > len(quote_mark) and value.endswith(quote_mark) else ""
    return f"{head}{name}{sep}{quote_mark}{MARK}{closed}"


def _diffs(text):
    """Leave out the body of a unified diff, as Chef prints it, when one of its lines shows a secret: neighbours may too."""
    if "+++ " not in text:
        return text
    rows, out, i = text.split("\n"), [], 0
    while i < len(rows):
        out.append(rows[i])
        i += 1
        indent = len(rows[i - 1]) - len(rows[i - 1].lstrip(" \t"))
        if not (rows[i - 1][indent:].startswith("--- ") and i < len(rows) and rows[i][indent:].startswith("+++ ")):
            continue
        out.append(rows[i])
        first = i = i + 1
        while i < len(rows) and rows[i][:indent].strip() == "" and rows[i][indent:indent + 1] in tuple("@+- \\"):
            i += 1
        body = rows[first:i]
        if any(MARK in row or _HINT.search(row) and _PAIR.sub(_masked, _LINE.sub(_masked, row)) != row for row in body):
            body = [" " * indent + f"@@ {len(body)} lines of this difference are not shown: they hold a secret @@"]
        out += body
    return "\n".join(out)


def _cut(text, cap, lines):
    if lines is not None:
        text = text.rstrip("\n")
        rows = text.count("\n") + 1
        if rows > lines or len(text) > cap:
            start = 0
            for _ in range(max(0, rows - max(1, lines - 1)) if rows > lines else 0):
                start = text.index("\n", start) + 1
            if len(text) - start > cap - _ROOM:
                start = _forward(text, len(text) - max(0, cap - _ROOM))
            return _told(text, 0, start, "\n" if lines > 1 and text[start - 1:start] == "\n" else " ")[:max(cap, 0)]
        return text
    if len(text) <= cap:
        return text
    if cap < 2 * _ROOM:
        return text[:max(0, cap - 3)] + "..."[:max(0, cap)]
    head = (cap - _ROOM) // 3
    return _told(text, _back(text, head), _forward(text, len(text) - (cap - _ROOM - head)), " ")


def _told(text, first, last, glue):
    """The text without its part from first to last, and how much that was; an earlier cut at the same place is added."""
    gone = text[first:last]
    earlier = _EARLIER.match(gone.lstrip())
    count = len(gone.encode("utf-8", "replace")) + (int(earlier[1]) - len(earlier[0]) if earlier else 0)
    return f"{text[:first]}{' ' if first else ''}... {max(count, 0)} bytes cut ...{glue}{text[last:]}"


def _back(text, at):
    """The last place at or before `at` where no word is torn, within a bound."""
    blank = max(text.rfind(" ", max(0, at - 200), at), text.rfind("\n", max(0, at - 200), at))
    return blank if blank > 0 else at


def _forward(text, at):
    blank = re.compile(r"\s").search(text, at, at + 200)
    return blank.end() if blank else at
