# shellcheck shell=bash
# Sourced by the other scripts: finds a ROS 2 install and puts it into the environment.

# The ROS wheels of another environment mark every process started from it, and the marks would
# keep the wheels of ours from finding their libraries.
if [ -n "${_ROS_WHEELS_BOOTSTRAP_COMPLETE:-}" ]; then
  unset _ROS_WHEELS_BOOTSTRAP_COMPLETE LD_LIBRARY_PATH
fi

imports() {  # imports PYTHON MODULE
  "$1" -c "import $2" >/dev/null 2>&1
}

# Sources the ROS install of this machine unless one is sourced; returns 1 if there is none.
# KD3D_ROS=wheels: behave as if there was none. KD3D_ROS_ROOT: where installs are looked for.
source_ros() {
  [ "${KD3D_ROS:-}" != wheels ] || return 1
  [ -z "${AMENT_PREFIX_PATH:-}" ] || [ -z "${ROS_DISTRO:-}" ] || return 0
  # ROS_DISTRO alone, as in a container's environment, only says which one.
  # shellcheck disable=SC2206
  local setups=("${KD3D_ROS_ROOT:-/opt/ros}"/${ROS_DISTRO:-*}/setup.bash)
  [ -f "${setups[0]}" ] || return 1
  if [ ${#setups[@]} -gt 1 ]; then
    echo "kd3d: several ROS installs: source one, then try again: ${setups[*]}" >&2
    exit 1
  fi
  set +u  # their scripts read unset variables
  # shellcheck disable=SC1090
  source "${setups[0]}"
  set -u
}
