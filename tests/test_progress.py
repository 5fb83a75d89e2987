from medcyclegan.progress import StageProgress, listen_to_progress, progress_bar


def test_a_listener_hears_every_step_of_the_block():
    heard = []
    with listen_to_progress(lambda *step: heard.append(step)), progress_bar("reading", 2) as bar:
        bar.advance()
        bar.advance()
    with progress_bar("reading", 1) as bar:
        bar.advance()
    assert heard == [("reading", 0, 2), ("reading", 1, 2), ("reading", 2, 2)]


def test_steps_become_a_fraction_of_the_whole_ten_times_a_second():
    told = []
    listener = StageProgress(lambda stage, fraction: told.append((stage, fraction)), [("one", 0.5), ("two", 0.5)])
    for done in range(1001):
        listener("one", done, 1000)
    listener("another", 1, 1)
    listener("two", 0, 0)
    assert told[0] == ("one", 0.0)
    assert told[-2:] == [("one", 0.5), ("two", 1.0)]
    assert len(told) < 20
