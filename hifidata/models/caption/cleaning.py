"""Turns the answer of a language model into one line of plain text, and recognises answers that are no caption.

An answer is data from outside. No instruction in it is followed, and characters that could break a line, a terminal or a
page are removed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from hifidata.core.schema import CaptionProblem
from hifidata.models.protocols import Description

MAX_ANSWER_CHARACTERS = 100_000
"""The longest thoughts and their caption have less; no pattern below sees more."""

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHTS_BEFORE = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
"""Where the chat template has opened the thoughts, the answer holds only their end."""
_MARKS = re.compile(r"(?m)^[^\S\n]*(?:#{1,6}|[-*•]|\d{1,2}\.)\s+|\*\*|__|`+")
_SENTENCE_END = re.compile(r"[.!?。！？][\"'”’)]*(?=\s|$)|[。！？]")
_REFUSAL = re.compile(
    r"""\W*(?:(?:sure|certainly|of[ ]course|okay|ok|thank[ ]you|thanks)\b[^.!?]{0,40}[.!,]\W*)?(?:
      (?:i['’]?m|i[ ]am|we['’]?re|we[ ]are)[ ](?:(?:very|so|really|afraid|just|only)[ ])?
        (?:sorry|unable|not[ ](?:able|allowed|permitted|comfortable|supposed|going)|programmed|designed|an[ ]ai|a[ ](?:large[ ])?language)\b
    | (?:so[ ]|very[ ])?sorry\b(?!-) | (?:my[ ])?apologies\b | (?:i|we)[ ](?:sincerely[ ]|must[ ])?(?:apologi[sz]e|regret)\b
    | as[ ]an?[ ](?:\w+[ ]){0,2}(?:ai|(?:language|vision|vision-language|multimodal)[ ]model|(?:ai|virtual|digital)[ ]assistant)\b
    | (?:i|we)[ ](?:can['’]?t|cannot|can[ ]not|could[ ]not|couldn['’]?t|won['’]?t|will[ ]not|must[ ]decline|have[ ]to[ ]decline)\b
    | i[ ](?:do[ ]not|don['’]?t)[ ](?:feel|have[ ]the|see[ ]an?[ ](?:image|picture|photo)|identify|describe|provide)\b
    | unfortunately,?[ ](?:i|we)\b
    | (?:unfortunately,?[ ])?(?:describing|identifying|recogni[sz]ing)[ ][^.!?]{0,80}?\b(?:policy|policies|guidelines)\b
    | unfortunately,?[ ][^.!?]{0,80}?\b(?:can['’]?t|cannot|can[ ]not|unable|(?:is|am|are)[ ]not|isn['’]?t|impossible)\b
    | it(?:['’]s|[ ]is)[ ](?:not[ ](?:possible|appropriate|permitted)|impossible|inappropriate)[ ](?:for[ ](?:me|us|an[ ]ai)|to[ ]
        (?:describe|identify|provide|generate|comment|determine|assist|help))\b
    | (?:the|this|that|your)[ ](?:provided[ ])?(?:image|picture|photo|photograph|portrait|person|content|request)[ ]
        (?:cannot|can['’]?t|can[ ]not|could[ ]not|must[ ]not|may[ ]not)[ ]be[ ]
        (?:described|identified|processed|analy[sz]ed|displayed|loaded|shown|viewed|fulfilled|completed)\b
    | (?:非常|很|十分|真的|真)?(?:抱歉|对不起|對不起|遗憾|遺憾) | 不好意思
    | (?:我|本人|本模型|我们|我們)(?:暂时|暫時|目前|现在|現在|恐怕|真的)*(?:无法|無法|不能|不便|没有办法|沒有辦法|没办法|不可以)
    | (?:作为|作為|我是|身为|身為)[^，。,.]{0,12}?(?:AI|人工智能|人工智慧|语言模型|語言模型|大模型|助手)
    | (?:无法|無法|不能)(?:描述|识别|識別|辨认|提供|回答|处理|處理|完成|协助|協助)
    | (?:这|這|该|該|此)[张張幅个個]?(?:图片|圖片|图像|圖像|照片|图|圖|请求|請求)(?:无法|無法|不能)
    )""",
    re.IGNORECASE | re.VERBOSE,
)
"""Beginnings of refusals, in English and in Chinese, the language of Yi-Vision. A caption begins with visible things."""


def plain(answer: str) -> str:
    """Return the start of an answer on one line, without thoughts, markdown and invisible characters."""
    text = answer[:MAX_ANSWER_CHARACTERS]
    return one_line(_MARKS.sub("", _THOUGHTS_BEFORE.sub("", _THOUGHTS.sub("", text))))


def one_line(text: str) -> str:
    """Return a text on one line, without invisible characters."""
    visible = (" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    return " ".join("".join(visible).split())


def description_of(
    answer: str, was_cut: bool, max_characters: int, prompt: str = "", redact: Callable[[str], str] = str
) -> Description:
    """Return the caption in an answer, or the reason why it holds none.

    Args:
        answer: the model's text.
        was_cut: whether the model ran into its limit of tokens.
        max_characters: of the caption; a longer one ends with its last whole sentence.
        prompt: the request's text; an answer that repeats it begins after it.
        redact: removes secrets from a text. It sees the text twice, because markdown may split a secret.
    """
    text = redact(plain(redact(answer[:MAX_ANSWER_CHARACTERS])))
    was_cut = was_cut or len(answer) > MAX_ANSWER_CHARACTERS
    if prompt and text.startswith(asked := plain(prompt)):
        text = text[len(asked) :].lstrip()
    if not text:
        return Description(None, CaptionProblem.TRUNCATED if was_cut else CaptionProblem.EMPTY)
    if _REFUSAL.match(text):
        return Description(None, CaptionProblem.REFUSED)
    return whole_sentences(text, was_cut, max_characters)


def whole_sentences(text: str, was_cut: bool, max_characters: int) -> Description:
    """Return a text, or its whole sentences if it was cut before or is longer than ``max_characters``."""
    if not was_cut and len(text) <= max_characters:
        return Description(text)
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match.end() <= max_characters]
    return Description(text[: ends[-1]] if ends else None, CaptionProblem.TRUNCATED)
