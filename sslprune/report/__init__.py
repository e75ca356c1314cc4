"""The paper's figures and claims from finished runs: result rows in, `paper.md` and its pictures out."""

from __future__ import annotations

from sslprune.report.write import Report, write_report

__all__ = ["Report", "write_report"]
