def test_first(operator):
    o = operator.run()
    print(o.output)
    from itertools import groupby
    t0=o.record[0].time
    for e in o.record:
        if e.what=="operation": print(f"{e.time-t0:.2f}", e.host, e.text)
    print(len(o.record), o.seconds)
    assert o.status == 0
    o = operator.run()
    print(o.output)
    print(len(o.record), o.seconds)
