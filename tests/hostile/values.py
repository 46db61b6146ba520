"""Bad values for each kind of field. JSON text, so that what JSON itself refuses is here too."""

from __future__ import annotations

import json
from typing import Final

ESC = json.dumps
SURROGATE: Final = '"A\\ud800B"'
LONG_INT: Final = "9" * 5000

NOT_STRINGS: Final = ["5", "1.5", "true", "[]", "{}", '["A"]', '{"A": 1}', "NaN", "-Infinity"]

AMOUNTS: Final = [
    *["50", "50.0", "50.00", "5e1", "-1", "0", "1e400", "-1e400", LONG_INT, "-0", "0.1"],
    *["NaN", "Infinity", "-Infinity", "true", "[]", "{}", '["50.00"]', '{"value": "50"}'],
    *[
        ESC(text)
        for text in [
            *["", " ", " 50", "50 ", "5 0", "\t50", "50\n", "+50", "-50", "--50", "50-", "(50)"],
            *["5e1", "5E1", "1e400", "0x32", "0b1", "1_000", "1,000.00", "50,00", "1 000", "50."],
            *[".50", ".", "1.1.1", "50.001", "50.0000", "NaN", "nan", "sNaN", "Infinity", "inf"],
            *["-Infinity", "0", "0.00", "000", "-0", "10000000000000.00", "9" * 16, "9" * 400],
            *["9" * 5000, "0." + "0" * 400 + "1", "50CZK", "CZK 50", "50\u0000", "\u0000", "½"],
            *["\uff15\uff10", "\u0665\u0660", "5\u0660", "\u0967", "\u2167", "\u00b2", "5\u200b0"],
            *["\u221250", "null", "true", "None", "fifty", "1/2", "50%", "$50", "50;drop table"],
        ]
    ],
    '"50\\ud800"',
]

ACCOUNTS: Final = [
    *NOT_STRINGS,
    SURROGATE,
    "null",
    *[
        ESC(text)
        for text in [
            *[
                "",
                " ",
                "a1",
                "A" * 35,
                "A" * 5000,
                "A 1",
                " A1",
                "A1 ",
                "A_1",
                "A.1",
                "A/1",
                "A1\n",
            ],
            *["A1\u0000", "\u00c11", "\uff211", "A1\u200b", "A1\u0661", "'; drop table ni.hold --"],
            *["%41", "../A1", "A1\u202e", "\U0001f3e6"],
        ]
    ],
]

CURRENCIES: Final = [
    *NOT_STRINGS,
    SURROGATE,
    "null",
    *[ESC(text) for text in ["", "CZ", "CZKK", "czk", "Czk", " CZK", "CZK ", "C K", "203"]],
    *[ESC(text) for text in ["XXX", "XAU", "ZZZ", "CZ\u0000", "\u0421ZK", "\uff23\uff3a\uff2b"]],
]

CHECKS: Final = [
    *NOT_STRINGS,
    *[
        ESC(text)
        for text in ["", "maybe", "AVAILABLE", "none ", "None", "available\u0000", "check"]
    ],
]

KINDS: Final = [
    *NOT_STRINGS,
    *[ESC(text) for text in ["", "arrests", "AUTHORIZATION", "other ", "\u0000", "any"]],
]

TYPES: Final = [
    *NOT_STRINGS,
    *[ESC(text) for text in ["", "transfer", "SALARY", "TRANSFER ", "\u0000", "CAPTURE"]],
]

OVERS: Final = [
    *NOT_STRINGS,
    *[ESC(text) for text in ["", "all", "CHECK", "available", "reject ", "\u0000"]],
]

BOOLEANS: Final = ["1", "0", "1.0", '"true"', '"yes"', '"on"', '"1"', '""', "[]", "{}", "NaN"]

UUIDS: Final = [
    *NOT_STRINGS,
    SURROGATE,
    *[
        ESC(text)
        for text in [
            *["", "x", "01890a5d-ac96-774b-bcce", "01890a5d-ac96-774b-bcce-b302099a8057\u0000"],
            *["{01890a5d-ac96-774b-bcce-b302099a8057}", "01890a5d-ac96-774b-bcce-b302099a805"],
            *[
                "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
                "g1890a5d-ac96-774b-bcce-b302099a8057",
            ],
            *["01890a5d-ac96-774b-bcce-b302099a80570", " 01890a5d-ac96-774b-bcce-b302099a8057"],
        ]
    ],
]

PACKETS: Final = [
    *NOT_STRINGS,
    SURROGATE,
    *[
        ESC(text)
        for text in ["", " ", "stp.x", "stp.", "p" * 65, "a/b", "a b", "\u00e9", "a\u0000", "a\n"]
    ],
    *[ESC(text) for text in ["a\\b", "a?b", "a%2fb", "\uff50", "p" * 5000, "a:b", "a+b", "a@b"]],
]

TIMES: Final = [
    *NOT_STRINGS,
    SURROGATE,
    LONG_INT,
    "1924992000",
    *[
        ESC(text)
        for text in [
            *["", "tomorrow", "2040-01-01", "2040-01-01T00:00:00", "2040-13-01T00:00:00Z"],
            *["2040-02-30T00:00:00Z", "2040-01-01T25:00:00Z", "2040-01-01T00:61:00Z", "1924992000"],
            *["0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2040-01-01T00:00:00+99:00"],
            *["9999-12-31T23:59:59-23:59", "2040-W01-1T00:00:00Z", "2040-001T00:00:00Z"],
            *["20400101T000000Z", "2040-01-01T00:00Z", "2040-01-01T00Z", "2040-01-01T00:00:00,5Z"],
            *["2040-01-01T00:00:00Z\u0000", " 2040-01-01T00:00:00Z", "2040-01-01T00:00:00 Z"],
            *["\uff12040-01-01T00:00:00Z", "2040-1-1T0:0:0Z", "2040-01-01T00:00:00UTC", "infinity"],
        ]
    ],
]

PAST_TIMES: Final = [
    ESC(text)
    for text in ["1999-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00+01:00"]
]

DATES: Final = [
    *NOT_STRINGS,
    SURROGATE,
    "20310303",
    *[
        ESC(text)
        for text in [
            *["", "today", "2031-3-3", "20310303", "2031-02-30", "2031-13-01", "0000-01-01"],
            *["10000-01-01", "2999-01-01", "9999-12-31", "2031-03-03T00:00:00Z", "1930262400"],
            *["03.03.2031", "2031/03/03", "2031-W10-1", "2031-062", "2031-03-03\u0000"],
            *[" 2031-03-03", "\uff12031-03-03", "infinity"],
        ]
    ],
]

OVERRIDES: Final = [
    *["5", '"order 7"', "true", "[]", "{}", '{"legal_reference": 5}', '{"legal_reference": null}'],
    *['{"legal_reference": "a", "more": 1}', '{"reference": "a"}', '{"legal_reference": ["a"]}'],
    *[
        '{"legal_reference": "a\\u0000"}',
        '{"legal_reference": "\\ud800"}',
        '[{"legal_reference": "a"}]',
    ],
    f'{{"legal_reference": "{"x" * 5000}"}}',
]


def texts(longest: int) -> list[str]:
    """Bad free texts for a field of at most `longest` characters."""
    return [
        *NOT_STRINGS,
        SURROGATE,
        '"\\udc00\\ud800"',
        *[
            ESC(text, ensure_ascii=False)
            for text in [
                *[
                    "x" * (longest + 1),
                    "x" * 5000,
                    "a\u0000b",
                    "a\nb",
                    "a\tb",
                    "a\u001bb",
                    "a\u007fb",
                ],
                *["a\u0085b", "a\u009fb", "e\u0301", "\u1112\u1161\u11ab", "\u212b"],
            ]
        ],
        '"\\u0000"',
        '"\\u001f"',
    ]
