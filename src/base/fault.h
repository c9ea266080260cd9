/*
 * Named points at which a process may be made to die, for tests of what is left behind.
 *
 * Only a program built with FAULT_POINTS has them (roomd_faults, never installed): when the file named by the environment
 * variable FAULT_POINT_FILE holds the point's name, the process kills itself there as kill -9 would. Elsewhere they are
 * nothing.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#ifdef FAULT_POINTS
void fault_point(const char *name);
#else
#define fault_point(name) ((void)0)
#endif

#endif
