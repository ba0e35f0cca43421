"""Jobs: what they tell while they run and afterwards, and how long they are kept."""

import json

import pytest

from service.errors import NotFound, Unprocessable
from service.repository.jobs import KEPT_JOBS, Jobs, ReloadJob


def ended() -> ReloadJob:
    job = ReloadJob("shapes")
    job.finished.set()
    return job


def test_a_phase_is_told_and_timed_even_when_it_fails() -> None:
    job = ReloadJob("shapes")
    with job.during("load"):
        assert (job.phase, job.progress) == ("load", None)
    with pytest.raises(ZeroDivisionError), job.during("check"):
        raise ZeroDivisionError
    assert job.phase == "check"
    assert list(job.phases_s) == ["load", "check"]
    assert all(seconds >= 0 for seconds in job.phases_s.values())


def test_a_phase_that_comes_twice_is_told_once_with_its_whole_time() -> None:
    job = ReloadJob("shapes")
    job.phases_s["drain"] = 2.0
    with job.during("drain"):
        pass
    assert list(job.phases_s) == ["drain"]
    assert job.phases_s["drain"] >= 2.0


def test_progress_is_a_share_of_the_phase_and_begins_anew_with_the_next() -> None:
    job = ReloadJob("shapes")
    with job.during("gate"):
        job.advance(1, 4)
        assert job.progress == 0.25
        job.advance(4, 4)
        assert job.progress == 1.0
    with job.during("swap"):
        assert job.progress is None


def test_of_nothing_there_is_no_share() -> None:
    job = ReloadJob("shapes")
    job.advance(0, 0)
    assert job.progress is None


def test_a_job_is_json_with_its_error() -> None:
    job = ReloadJob("shapes", "rollback", candidate="2", previous_version="3")
    with job.during("load"):
        pass
    told = json.loads(json.dumps(job.to_dict()))
    assert (told["model"], told["action"], told["candidate"]) == ("shapes", "rollback", "2")
    assert told["error"] is None
    assert list(told["phases_s"]) == ["load"]
    job.error = Unprocessable("model_refused", "It is no checkpoint.", file="model_final.pth")
    error = json.loads(json.dumps(job.to_dict()))["error"]
    assert (error["code"], error["details"]) == ("model_refused", {"file": "model_final.pth"})


def test_jobs_have_ids_of_their_own_and_are_found_by_them() -> None:
    jobs, made = Jobs(), [ended(), ended()]
    for job in made:
        jobs.add(job)
    assert made[0].id != made[1].id
    assert [jobs.get(job.id) for job in made] == made


def test_an_unknown_job_is_404_with_a_word_on_how_many_are_kept() -> None:
    with pytest.raises(NotFound) as caught:
        Jobs().get("x" * 1000)
    assert caught.value.code == "unknown_reload"
    assert str(KEPT_JOBS) in caught.value.message
    assert len(caught.value.message) < 200


def test_the_oldest_go_when_they_are_too_many() -> None:
    jobs, made = Jobs(), [ended() for _ in range(KEPT_JOBS + 2)]
    for job in made:
        jobs.add(job)
    for gone in made[:2]:
        with pytest.raises(NotFound):
            jobs.get(gone.id)
    assert all(jobs.get(job.id) is job for job in made[2:])


def test_one_that_runs_stays_however_old_it_is() -> None:
    jobs, running = Jobs(), ReloadJob("shapes")
    jobs.add(running)
    made = [ended() for _ in range(KEPT_JOBS)]
    for job in made:
        jobs.add(job)
    assert jobs.get(running.id) is running
    with pytest.raises(NotFound):
        jobs.get(made[0].id)
