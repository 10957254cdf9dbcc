"""Traffic: recordings and generators, as arrivals by the second that the plant can play.

``source`` is the front door (what stands after ``--trace``) and ``load`` what comes out of it.

- a recording: ``opening`` (blocks of lines) → ``formats`` → ``rows`` → ``stream`` (in order) →
  ``classes`` (sums by second) → ``recording``; ``scaling`` and ``draw`` play it at another rate
- made up: ``generators`` and ``curves`` say a ``demand``, which is drawn
- ``summary`` tells a load in figures; ``traces`` gives single requests to who sends real ones
"""
