#!/bin/sh
# Outlives the worker by a moment, and takes its agents with it. Usage: reaper.sh VARIABLE=WORKERTAG.
# Standard input comes from the worker: "+ GROUP" for a process group that was started, "- GROUP" for one that is gone. When it ends, the
# worker is gone, however it died: all groups left are ended, then every process whose environment carries the tag.
trap '' HUP INT TERM PIPE
tag=$1
groups=" "
while read -r action group; do
  case $action in
    +) groups="$groups$group " ;;
    -) case $groups in *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}" ;; esac ;;
  esac
done

# PIDs that carry the tag. Without /proc there are none.
tagged() {
  for file in $(grep -lsF -e "$tag" /proc/[0-9]*/environ 2>/dev/null); do
    pid=${file#/proc/}
    echo "${pid%/environ}"
  done
}

# "kill -s" is the one form that every shell takes for a group.
end() {
  for group in $groups; do kill -s "$1" -- "-$group" 2>/dev/null; done
  for pid in $(tagged); do kill -s "$1" "$pid" 2>/dev/null; done
}

left() {
  for group in $groups; do kill -s 0 -- "-$group" 2>/dev/null && return 0; done
  [ -n "$(tagged)" ]
}

if ! left; then exit 0; fi
end TERM
waited=0
while left && [ "$waited" -lt 10 ]; do
  sleep 0.1
  waited=$((waited + 1))
done
# What is started while we kill is found by the next round.
rounds=0
while left && [ "$rounds" -lt 50 ]; do
  end KILL
  sleep 0.1
  rounds=$((rounds + 1))
done
exit 0
