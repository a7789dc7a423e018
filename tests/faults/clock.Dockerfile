# The service with a clock that a file moves, for tests/faults/clock.py.
FROM deepemotion
USER 0
RUN apt-get update && apt-get install --yes --no-install-recommends libfaketime && rm -rf /var/lib/apt/lists/*
USER 10001:10001
# Only the time of day jumps; no kernel's monotonic clock does.
ENV DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1 FAKETIME_TIMESTAMP_FILE=/clock/now
CMD ["sh", "-c", "LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketimeMT.so.1) exec deepemotion serve"]
