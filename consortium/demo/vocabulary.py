"""Words of the demonstration's notes. Conditions, codes and hospitals are invented for it; nobody is described."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Condition:
    """A code, and how a clinician, a patient's words and a hurried hand put it."""

    code: str
    clinical: str
    plain: str
    short: str


@dataclass(frozen=True, slots=True)
class Hospital:
    """How one hospital writes, what it mostly sees (the first condition's number and how many), and how many notes it has."""

    name: str
    first: int
    conditions: int
    notes: int
    manner: str
    openings: tuple[str, ...]
    endings: tuple[str, ...]


CONDITIONS = (
    Condition("C01", "myocardial infarction", "heart attack", "MI"),
    Condition("C02", "atrial fibrillation", "irregular heartbeat", "AF"),
    Condition("C03", "pneumonia", "chest infection", "PNA"),
    Condition("C04", "asthma exacerbation", "wheezing attack", "asthma"),
    Condition("C05", "pulmonary embolism", "clot in the lung", "PE"),
    Condition("C06", "appendicitis", "inflamed appendix", "appy"),
    Condition("C07", "cholecystitis", "gallbladder pain", "chole"),
    Condition("C08", "nephrolithiasis", "kidney stone", "stones"),
    Condition("C09", "urinary tract infection", "burning urine", "UTI"),
    Condition("C10", "diabetic ketoacidosis", "sugar crisis", "DKA"),
    Condition("C11", "hypothyroidism", "slow thyroid", "low T4"),
    Condition("C12", "ischaemic stroke", "sudden weak side", "CVA"),
    Condition("C13", "epileptic seizure", "fit", "sz"),
    Condition("C14", "migraine", "one sided headache", "HA"),
    Condition("C15", "hip fracture", "broken hip", "hip fx"),
    Condition("C16", "cellulitis", "red hot skin", "skin inf"),
)

HOSPITALS = (
    Hospital(
        "harbour", 0, 8, 900, "clinical", ("Adm:", "Admitted.", "Seen on ward.", "Transfer in."), ("Monitor overnight.", "IV started.", "")
    ),
    Hospital(
        "hillside", 4, 8, 700, "plain", ("Pt says", "Walk-in today.", "Came with family.", "Seen 9am."), ("Home tomorrow.", "Rest.", "")
    ),
    Hospital("meadow", 8, 8, 500, "short", ("ED note:", "Triage:", "Bay 4.", "Obs."), ("Bloods sent.", "r/v am.", "")),
    Hospital(
        "riverside",
        12,
        8,
        400,
        "mixed",
        ("Clinic letter.", "Referred.", "Follow up.", "Outpatient."),
        ("Letter to GP.", "Scan booked.", ""),
    ),
)

PRESENT = ("{x}", "has {x}", "presents with {x}", "dx {x}", "confirmed {x}", "likely {x}", "impression: {x}")
ABSENT = ("no {x}", "{x} ruled out", "not {x}", "mother had {x}", "family hx of {x}", "denies {x}", "old {x}, resolved", "no sign of {x}")
