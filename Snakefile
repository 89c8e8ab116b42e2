# Decides which notebooks must run; papermill runs them. `snakemake -np --config profile=study` prints the plain lines.
from recsys_core.pipeline.prepare import prepare
from recsys_core.pipeline.study import Study, cuda_available

study = Study()
jobs = study.jobs(config.get("profile", "study"))
prepare(study, jobs)
use_gpu = any(job.entry.training for job in jobs) and config.get("gpu", False)


rule all:
    input:
        [job.state("done") for job in jobs],


for job in jobs:

    rule:
        name:
            f"{job.profile}_{job.name}"
        input:
            job.state("fingerprint"),
            [(job.executed / "state" / f"{name}.done") for name in job.after],
        output:
            [directory(path) if path.suffix == "" else path for path in job.files],
            touch(job.state("done")),
        log:
            notebook=job.copy,
        benchmark:
            job.state("tsv")
        params:
            command=job.command,
        resources:
            gpu=int(use_gpu and job.entry.training),
        shell:
            "{params.command}"
