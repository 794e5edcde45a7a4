package hudson.util;

import java.lang.reflect.Field;
import java.lang.reflect.Method;

/**
 * How Jenkins finds the number of a process that it started, and ends a process by its number: it reaches into the private class
 * java.lang.UNIXProcess, which Java 9 removed. Without this an abort would end no process at all.
 *
 * Its callers were compiled against two accessors of the original; these have the same names.
 */
final class ProcessTree$UnixReflection {
    /** The field that holds a Process's number. It is private: Jenkins is started with --add-opens java.base/java.lang. */
    static Field access$300() {
        try {
            Field number = Class.forName("java.lang.ProcessImpl").getDeclaredField("pid");
            number.setAccessible(true);
            return number;
        } catch (ReflectiveOperationException e) {
            throw new LinkageError("this Java keeps no number in java.lang.ProcessImpl", e);
        }
    }

    /** A static method that takes a number and sends SIGTERM, as the original's did. */
    static Method access$400() {
        try {
            Method end = ProcessTree$UnixReflection.class.getDeclaredMethod("end", int.class);
            end.setAccessible(true);
            return end;
        } catch (NoSuchMethodException e) {
            throw new LinkageError("end", e);
        }
    }

    static void end(int number) {
        ProcessHandle.of(number).ifPresent(ProcessHandle::destroy);
    }
}
