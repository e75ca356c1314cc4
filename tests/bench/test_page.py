"""Tables of a bench: a line a keep rate, falling, and the ratios of the rows."""

from __future__ import annotations

from bench_documents import document

from sslprune.bench.page import about, costs, markdown, times


def test_a_table_a_setting_and_a_line_a_keep_rate():
    first, second = times(document())
    assert first.title == "resnet20_cifar, erk mask, 32 x 32, 1 image, 2 threads"
    assert "16 images" in second.title
    assert [row[0] for row in first.rows] == ["10%", "1%"]
    line = dict(zip(first.header, first.rows[1], strict=True))
    assert line == {
        "keep": "1%",
        "MACs left": "5.5%",
        "sparse": "75%",
        "sslprune": "0.200 (0.200)",
        "ort": "10.0 (10.0)",
        "openvino": "20.0 (20.0)",
        "torch": "30.0 (30.0)",
        "x dense": "50.0",
        "by minima": "50.0",
        "x torch": "150",
    }


def test_what_failed_is_said_and_costs_nothing():
    found = document(against=("torch", "int8"))
    line = dict(zip(times(found)[0].header, times(found)[0].rows[0], strict=True))
    assert (line["int8"], line["x int8"]) == ("failed", "-")
    assert "x dense" not in line
    cells = {row[0]: row[1:] for row in costs(found)[0].rows}
    assert cells["10% int8"] == ["failed", "-", "-", "-", "-", "-"]
    assert cells["10% sslprune"] == ["-", "1.0e-07", "1.00", "0.50", "-", "12"]


def test_a_network_that_runs_dense_is_called_so():
    found = document()
    for row in found["rows"]:
        row |= {"reason": "an operator", "paths": {}} if row["engine"] == "sslprune" else {}
    assert times(found)[0].rows[0][2] == "dense"


def test_markdown_has_all_tables_the_command_and_the_machine():
    text = markdown(document())
    assert text.startswith("`sslprune bench`\n")
    assert about(document()) in text
    assert text.count("| --- |") == 4
    assert text.count("### ") == 2
