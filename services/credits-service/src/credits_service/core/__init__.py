"""What everything above uses: money, time, errors, metrics."""
