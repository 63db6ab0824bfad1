// SPDX-License-Identifier: Apache-2.0
// Holds a pod's namespaces until it is told to end, and reaps what others in its pid namespace leave.
#include <signal.h>
#include <sys/wait.h>

int main(void) {
  sigset_t signals;
  int number = 0;

  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGCHLD);
  sigprocmask(SIG_BLOCK, &signals, 0);
  do {
    sigwait(&signals, &number);
    while (number == SIGCHLD && waitpid(-1, 0, WNOHANG) > 0) {
    }
  } while (number == SIGCHLD);
  return 0;
}
