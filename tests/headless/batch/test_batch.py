"""Rows, grids, what is done before, and what a batch says at its end."""

import asyncio
import json

import pytest

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.headless.batch.record import FILE, SENT, STAGE, Entry, Record
from clip_vae_lora.headless.batch.rows import job_key, read_rows, varied
from clip_vae_lora.headless.remote import connection
from clip_vae_lora.headless.workflow.graph import WorkflowError, server_spec
from clip_vae_lora.headless.workflow.settings import with_settings

from ...support.servers.queue_server import prompt_of


def rows_of(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    return [row.settings for row in read_rows(tmp_path / name)]


def test_rows_are_json_lines_or_a_csv_whose_empty_cells_change_nothing(tmp_path):
    lines = '{"3.seed": 7, "P.text": "a, b", "4.on": true, "5.colors": ["red"], "6.a": null}\n\n{"3.seed": 8}\n'
    first = ("3.seed=7", "P.text=a, b", "4.on=true", '5.colors=["red"]')
    assert rows_of(tmp_path, "a.jsonl", lines) == [first, ("3.seed=8",)]
    table = '\ufeff3.seed,P.text\r\n7,"a, b\nc"\r\n8,\r\n'
    assert rows_of(tmp_path, "a.csv", table) == [("3.seed=7", "P.text=a, b\nc"), ("3.seed=8",)]
    assert rows_of(tmp_path, "b.csv", "3.seed;P.text\n7;a, b\n") == [("3.seed=7", "P.text=a, b")]


def test_rows_are_read_as_spreadsheets_and_programs_write_them(tmp_path):
    wanted = [("Prompt, main.text=a;b", "3.seed=7")]
    assert rows_of(tmp_path, "a.csv", '\n"Prompt, main.text";3.seed\n"a;b";7\n') == wanted
    assert rows_of(tmp_path, "b.csv", '\ufeffsep=;\r\nPrompt, main.text;3.seed\r\n"a;b";7\r\n') == wanted
    assert rows_of(tmp_path, "c.csv", "3.seed\tP.text\r7\ta, b\r") == [("3.seed=7", "P.text=a, b")]
    rows = [{"3.seed": 7}, {"3.seed": 8}]
    assert rows_of(tmp_path, "d.json", json.dumps(rows, indent=2)) == [("3.seed=7",), ("3.seed=8",)]
    assert rows_of(tmp_path, "e.txt", json.dumps(rows)) == [("3.seed=7",), ("3.seed=8",)]
    assert rows_of(tmp_path, "f.json", json.dumps(rows[0], indent=2)) == [("3.seed=7",)]
    pasted = {"P.text": "one\u2028two\x85three", "Käse 🧀.text": "née"}
    lines = "\r\n".join([json.dumps(pasted, ensure_ascii=False)] * 2)
    assert rows_of(tmp_path, "g.jsonl", lines) == [("P.text=one\u2028two\x85three", "Käse 🧀.text=née")] * 2


@pytest.mark.parametrize(
    "name, text, said",
    [
        (
            "a.jsonl",
            '{"3.seed": 1}\n{"3.seed": \n[1]\n{"seed": 1}',
            ["line 2: it is not valid JSON", "line 3", "line 4"],
        ),
        ("a.jsonl", '{"3.seed": 1, "3.seed": 2}', ["line 1", "twice"]),
        ("a.csv", "3.seed,text\n1,2", ["line 1", "'text' is no node.input"]),
        ("a.csv", '3.seed\n"1\n2"\n1,2', ["line 4", "2 cells"]),
        ("a.csv", "\n", ["no rows"]),
        ("a.csv", "sep=;\n3.seed;4.a\n1;2\n1;2;3", ["line 4", "3 cells"]),
        ("a.csv", "sep=;\nseed;4.a\n1;2", ["line 2", "'seed' is no node.input"]),
        ("a.csv", '3.seed\n1\n"2', ["line 3", "it is no CSV"]),
        ("a.json", '[{"3.seed": 1}, 2, {"seed": 3}]', ["row 2: expected an object", "this is 2", "row 3: 'seed'"]),
    ],
)
def test_bad_rows_are_named_with_their_lines(tmp_path, name, text, said):
    with pytest.raises(WorkflowError) as error:
        rows_of(tmp_path, name, text)
    assert all(part in str(error.value) for part in said), error.value


def test_values_are_taken_as_spreadsheets_write_them_and_never_rounded():
    specs = {"A": server_spec({"input": {"required": {"seed": ["INT", {}], "on": ["BOOLEAN", {}]}}, "output": []})}
    prompt = {"1": {"class_type": "A", "inputs": {"seed": 1, "on": False}}}

    def found(*settings):
        return with_settings(prompt, settings, specs.get)[0]["1"]["inputs"]

    assert found("1.seed=7.0", "1.on=TRUE") == {"seed": 7, "on": True}
    assert found("1.seed=18446744073709551615", "1.on=1") == {"seed": 18446744073709551615, "on": True}
    assert found("1.seed=1e3", "1.on=0") == {"seed": 1000, "on": False}
    with pytest.raises(WorkflowError, match='"1.84467E[+]19" is a rounded one; write all its digits'):
        found("1.seed=1.84467E+19")
    with pytest.raises(WorkflowError, match='a number was expected, and this is "0,5"'):
        found("1.seed=0,5")


def test_a_grid_has_every_combination_and_is_put_to_every_row():
    grid = [row.settings for row in varied((), ["1.a=x,y", '1.b=["1,2", 3]'])]
    assert grid == [("1.a=x", "1.b=1,2"), ("1.a=x", "1.b=3"), ("1.a=y", "1.b=1,2"), ("1.a=y", "1.b=3")]
    with pytest.raises(WorkflowError, match="expected node.input=a,b,c"):
        varied((), ["seed=1"])
    with pytest.raises(WorkflowError, match="is the most"):
        varied((), [f"{node}.a={','.join('1' * 99)}" for node in range(4)])


def test_a_job_is_the_same_wherever_its_nodes_stand_on_the_canvas():
    canvas = {"nodes": [{"id": 1, "type": "A", "pos": [0, 0], "widgets_values": [1]}], "links": []}
    moved = {"nodes": [{**canvas["nodes"][0], "pos": [9, 9]}], "links": [], "extra": {"ds": {}}}
    other = {"nodes": [{**canvas["nodes"][0], "widgets_values": [2]}], "links": []}
    assert job_key(canvas, ["a=1", "b=2"]) == job_key(moved, ["b=2", "a=1"])
    assert len({job_key(canvas, []), job_key(other, []), job_key(canvas, ["a=1"])}) == 3


def test_a_batch_goes_on_where_it_ended_and_tries_what_failed_again(queue_server, go, tmp_path):
    server, second = queue_server(), queue_server()
    both = ["--server", second.url, "--json"]
    code, out, err = go(server.url, "--vary", "1.text=a,fail,b", *both)
    found = json.loads(out)
    assert code == 1 and "1 of 3 jobs failed" in err and found["code"] == 1
    assert [job["state"] for job in found["jobs"]] == ["done", "failed", "done"]
    assert "no memory" in found["jobs"][1]["error"] and len(found["jobs"][1]["files"]) == 1
    code, out, _ = go(server.url, "--vary", "1.text=a,b,c,a", *both)
    assert code == 0 and [job["before"] for job in json.loads(out)["jobs"]] == [True, True, False, True]
    assert sum(server.ran.values()) + sum(second.ran.values()) == 4
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        f"{name}_0.png" for name in ("a", "b", "c", "fail")
    }


def test_each_server_is_kept_busy_and_has_no_more_than_it_may(queue_server, go, monkeypatch):
    servers = [queue_server(job_s=0.02) for _ in range(2)]
    most: dict[str, int] = {}
    run = type(servers[0]).run

    async def counted(self, *item):
        most[self.url] = max(most.get(self.url, 0), 1 + len(self.pending))
        await run(self, *item)

    monkeypatch.setattr(type(servers[0]), "run", counted)
    grid = ["--vary", "1.count=1,2", "--vary", "1.text=a,b,c,d,e", "--ahead", "2"]
    code, out, _ = go(servers[0].url, "--server", servers[1].url, *grid)
    assert code == 0 and "10 jobs: 10 done" in out
    assert len(most) == 2 and max(most.values()) <= 2


def test_bad_rows_stop_a_batch_before_anything_runs(queue_server, go, tmp_path):
    server = queue_server()
    (tmp_path / "rows.jsonl").write_text('{"1.text": "a"}\n{"9.text": "b"}\n{"1.count": "many"}')
    code, _, err = go(server.url, "--batch", str(tmp_path / "rows.jsonl"))
    assert code == 2 and "rows.jsonl line 2" in err and "rows.jsonl line 3" in err and "line 1" not in err
    assert not server.ran


def test_the_table_names_some_of_many_files_and_the_document_all(queue_server, go):
    server = queue_server()
    grid = ["--vary", "1.text=a", "--set", "1.count=200"]
    code, out, _ = go(server.url, *grid)
    assert code == 0 and "a_5.png and 194 more\n" in out and "a_6.png" not in out
    code, out, _ = go(server.url, *grid, "--json")
    assert code == 0 and len(json.loads(out)["jobs"][0]["files"]) == 200


def test_a_disk_that_fills_up_ends_a_batch_with_the_folders_name_and_nothing_half(
    queue_server, go, tmp_path, monkeypatch
):
    server, real = queue_server(), connection._write
    room = [700]

    def write(file, chunk):
        room[0] -= len(chunk)
        if room[0] < 0:
            file.write(chunk[:1])
            raise FileFormatError(file.name, "cannot be written: No space left on device")
        real(file, chunk)

    monkeypatch.setattr(connection, "_write", write)
    grid = ["--vary", "1.text=a,b,c", "--set", "1.count=9"]
    code, _, err = go(server.url, *grid)
    assert code == 2 and f"cannot be written into {tmp_path / 'out'}: No space left" in err and ".part" not in err
    assert not (tmp_path / "out" / STAGE).exists() and not list((tmp_path / "out").rglob("*.part"))
    room[0] = 10_000
    code, out, _ = go(server.url, *grid)
    assert code == 0 and "failed" not in out
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")} == server.files


def test_what_is_wrong_with_many_rows_is_said_once(queue_server, go, tmp_path):
    (tmp_path / "rows.csv").write_text("1.text,1.sead\n" + "a,1\n" * 50 + "b,2\n")
    code, _, err = go(queue_server().url, "--batch", str(tmp_path / "rows.csv"))
    assert code == 2 and err.count("has no input '1.sead'") + err.count("has no input 'sead'") <= 2
    (tmp_path / "rows.csv").write_text("1.text,1.count\n" + "".join(f"{row},many\n" for row in range(50)))
    code, out, err = go(queue_server().url, "--batch", str(tmp_path / "rows.csv"))
    assert code == 2 and "rows.csv line 2 and 49 more: --set '1.count=many'" in err and "line 3" not in err
    assert out == ""


def test_a_server_that_is_away_leaves_its_jobs_to_the_other(queue_server, go):
    server = queue_server()
    code, out, err = go(server.url, "--server", "http://127.0.0.1:9", "--vary", "1.text=a,b")
    assert code == 0 and "2 done" in out and "127.0.0.1:9" in err


def test_a_job_that_was_sent_to_a_server_which_is_not_given_is_not_done_again(queue_server, go, tmp_path):
    first, second = queue_server(job_s=0.01), queue_server()
    assert go(first.url, "--vary", "1.text=a")[0] == 0
    record = Record(tmp_path / "out")
    key = job_key(prompt_of("a"), ["1.text=a"])
    entry = record.find(key)
    record.write(key, type(entry)("sent", entry.settings, first.url, entry.job))
    record.close()
    code, _, err = go(second.url, "--vary", "1.text=a,b")
    assert code == 3 and first.url in err and list(second.ran.values()) == [1]
    code, out, _ = go(second.url, "--server", first.url, "--vary", "1.text=a,b")
    assert code == 0 and sum(first.ran.values()) == 1 and sum(second.ran.values()) == 1


def test_what_was_sent_to_a_server_that_will_not_come_back_is_run_on_another(queue_server, go, tmp_path):
    record = Record(tmp_path / "out")
    for text in "ab":
        record.write(job_key(prompt_of("a"), [f"1.text={text}"]), Entry(SENT, (), "http://127.0.0.1:9", "never"))
    record.close()
    server = queue_server()
    code, _, err = go(server.url, "--vary", "1.text=a,b,c")
    assert code == 3 and "http://127.0.0.1:9" in err and "--gone" in err and sum(server.ran.values()) == 1
    code, out, _ = go(server.url, "--vary", "1.text=a,b,c", "--gone", "127.0.0.1:9/")
    assert code == 0 and "2 done" in out and sum(server.ran.values()) == 3


@pytest.mark.parametrize(
    "how, times, code, ran_b", [("stopped", 1, 1, 1), ("forgotten", 1, 0, 2), ("forgotten", 9, 1, 3)]
)
def test_a_job_that_somebody_stops_is_failed_and_one_that_a_restart_forgets_is_sent_again(
    queue_server, go, monkeypatch, how, times, code, ran_b
):
    server, ran = queue_server(job_s=0.05), []
    run = type(server).run

    async def disturbed(self, number, prompt, extra):
        text = prompt["1"]["inputs"]["text"]
        ran.append(text)
        if text != "b" or ran.count("b") > times:
            await run(self, number, prompt, extra)
        elif how == "stopped":
            asyncio.get_running_loop().call_later(0.01, lambda: setattr(self, "interrupted", True))
            await run(self, number, prompt, extra)

    monkeypatch.setattr(type(server), "run", disturbed)
    found, out, _ = go(server.url, "--vary", "1.text=a,b,c", "--json")
    jobs = json.loads(out)["jobs"]
    assert found == code and [job["state"] for job in jobs] == ["done", "failed" if code else "done", "done"]
    assert ran.count("a") == ran.count("c") == 1 and ran.count("b") == ran_b
    if code:
        assert {"stopped": "was stopped on the server", "forgotten": "no longer knows"}[how] in jobs[1]["error"]
    if how == "stopped":
        assert go(server.url, "--vary", "1.text=a,b,c")[0] == 0 and ran.count("b") == 2 and len(ran) == 4


def test_two_batches_into_one_folder_do_not_run_at_once(queue_server, go, tmp_path):
    record = Record(tmp_path / "out")
    code, _, err = go(queue_server().url, "--vary", "1.text=a")
    record.close()
    assert code == 2 and "another batch is running" in err


def test_a_record_that_is_none_is_named(queue_server, go, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / FILE).write_text("no database, and longer than a header of one " * 9)
    code, _, err = go(queue_server().url, "--vary", "1.text=a")
    assert code == 2 and "is damaged" in err
