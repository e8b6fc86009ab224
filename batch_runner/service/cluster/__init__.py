"""Runs on a Dask cluster: the executor for sync functions where one machine is not enough.

    cluster.py     the executor: bundles calls into parcels, and says what becomes of those that got lost
    way.py         a call on its way: what is known of it, and how it ends
    outage.py      since when nothing can be run, and why
    connection.py  the way to the scheduler: found, checked, kept, and found again
    parcel.py      what goes to a Dask worker, and what comes back
    seat.py        the Dask worker's side: runs calls in worker processes of its own
    undisturbed.py what workers of our own cluster load first
    claims.py      the scheduler's side: how often a parcel was begun

Dask decides which of its workers runs what. A call runs there as it does here, in a worker process of ours under the
Dask worker: so its time and memory are limited, and a cancelled one is killed. Nothing has to be set up on a cluster
but the installation: workers and scheduler are told what they need with the first call.
"""
