"""What this machine and this installation are fit for: the checks of ``doctor``, the facts of ``env``."""

from __future__ import annotations

from edgekit.diagnosis.doctor import examine
from edgekit.diagnosis.facts import describe_environment
from edgekit.diagnosis.records import Check, DoctorRecord, EnvRecord

__all__ = ["Check", "DoctorRecord", "EnvRecord", "describe_environment", "examine"]
