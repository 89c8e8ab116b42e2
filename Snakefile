# Decides which notebooks must run; papermill runs them. `snakemake -np --config profile=study` prints the plain lines.
from pipeline.runs.jobs import jobs_of
from pipeline.runs.prepare import prepare
from pipeline.chapters.study import Study

study = Study()
names = [name for name in str(config.get("names", "")).split(",") if name]
jobs = jobs_of(study, config.get("profile", "study"), names, config.get("here", True))
if workflow.is_main_process:  # not in a cluster's job, which would see what others have not ended yet
    prepare(study, jobs)


rule all:
    input:
        [job.state("done") for job in jobs],


# No rule has a file that git tracks as its output: Snakemake deletes outputs before a rule runs and after it has failed.
for job in jobs:

    rule:
        name:
            f"{job.profile}_{job.name}"
        input:
            job.state("fingerprint"),
            [job.state("done", name) for name in job.after],
        output:
            touch(job.state("done")),
        log:
            notebook=job.copy,
        benchmark:
            job.state("tsv")
        params:
            command=job.command,
            placing=job.placing,
        priority: int(job.chapter.trains)
        resources:
            **({"gpu": 1} if config.get("gpu") and job.chapter.trains else {}),
        shell:
            "{params.command} && {params.placing}"
