#!/usr/bin/env bash
# The audit of action.yml, by SOURCE, OPTIONS and FAIL_OVER: the sentences go to the job's summary, the run's folder to its outputs, the
# table of suspects to .datablame/baseline.parquet, from where the next one reads it. Ends as the audit ends: by 3 over the share.
set -uo pipefail
mkdir -p .datablame
read -ra options <<<"${OPTIONS:-}"
[ -n "${FAIL_OVER:-}" ] && options+=(--fail-over "$FAIL_OVER")
[ -s .datablame/baseline.parquet ] && options+=(--baseline .datablame/baseline.parquet)
datablame audit "$SOURCE" "${options[@]}" --out .datablame/runs --json >.datablame/audit.json
code=$?
if [ -s .datablame/audit.json ]; then
  python - >>"${GITHUB_STEP_SUMMARY:-/dev/stdout}" <<'PROGRAM'
import json
facts = json.load(open(".datablame/audit.json", encoding="utf-8"))
new = facts.get("new_suspects")
print(f"**datablame**: {facts['suspects']:,} of {facts['examples']:,} images are suspect ({facts['suspect_share']:.1%})")
if new is not None:
    print(f"\n{len(new):,} of them are new" + (": " + ", ".join(f"`{name}`" for name in new[:20]) if new else ""))
PROGRAM
  run=$(python -c 'import json; print(json.load(open(".datablame/audit.json", encoding="utf-8"))["run"])')
  echo "run=$run" >>"${GITHUB_OUTPUT:-/dev/null}"
  cp "$run/examples.parquet" .datablame/baseline.parquet
fi
exit $code
