"""Child process: python -P -m apa_deploy.verification.worker WORK.json"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from ..errors import ApaError, find_refusal
from .record import FailureRecord
from .work import Answer, Work, as_results, do_work, save_results


def main(path: str) -> None:
    """Do the work; an error that a user may see, a library's too, goes into the answer; a bug ends the process."""
    work = Work.model_validate_json(Path(path).read_text(encoding="utf-8"))
    sys.path += [entry for entry in work.path if entry not in sys.path]
    try:
        answer, recorded = do_work(work)
        save_results(as_results(recorded), Path(work.results))
    except Exception as error:
        known = error if isinstance(error, ApaError) else find_refusal(error)
        if known is None:
            raise
        traceback.print_exc()
        answer = Answer(failure=FailureRecord.of(known))
    Path(work.answer).write_text(answer.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
