#!/usr/bin/env python3
"""Fails where a bill of materials is not valid by CycloneDX' own schema."""
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(pathlib.Path(sys.argv[1]).read_text())
sys.exit(f"sbom: {error}" if error else 0)
