import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.instrument.ClassFileTransformer;
import java.lang.instrument.Instrumentation;
import java.security.ProtectionDomain;
import java.util.Set;

/**
 * Lets Jenkins 1.514, which was written for Java 5 to 7, run on Java 17: java -javaagent:agent.jar -jar jenkins.war.
 *
 * Two classes are given other bodies as they are loaded (the sources are in instead/), and one family of classes catches an
 * exception that did not exist when they were written. Nothing in the WAR itself is changed.
 */
public final class Agent implements ClassFileTransformer {
    /** In the agent's jar the stand-ins lie below this name, where no class loader looks for them. */
    private static final String FOLDER = "/instead/";
    private static final Set<String> INSTEAD = Set.of(
        "com/thoughtworks/xstream/core/util/OrderRetainingMap", "hudson/util/ProcessTree$UnixReflection");

    /** Groovy 1.8 asks for access to every member and goes on where it gets a SecurityException. Java 17 answers
        InaccessibleObjectException; RuntimeException is above both. */
    private static final String GROOVY = "org/codehaus/groovy/reflection/CachedClass$";
    private static final String CAUGHT = "java/lang/SecurityException", CATCHES = "java/lang/RuntimeException";

    private static final int UTF8 = 1, LONG = 5, DOUBLE = 6;

    public static void premain(String words, Instrumentation machine) {
        machine.addTransformer(new Agent());
    }

    /** A new body for the class, or null: as it is. Java ignores what this throws, so a failure is told here. */
    @Override
    public byte[] transform(ClassLoader loader, String name, Class<?> again, ProtectionDomain domain, byte[] body) {
        try {
            if (name != null && INSTEAD.contains(name)) return standIn(name);
            if (name != null && name.startsWith(GROOVY)) return renamed(body, CAUGHT, CATCHES);
        } catch (IOException e) {
            System.err.println("agent: " + name + " stays as it is: " + e);
        }
        return null;
    }

    private static byte[] standIn(String name) throws IOException {
        try (InputStream in = Agent.class.getResourceAsStream(FOLDER + name + ".class")) {
            if (in == null) throw new IOException("it is not in the agent's jar");
            return in.readAllBytes();
        }
    }

    /** The class file with one text of its constant pool replaced (Java Virtual Machine Specification, 4.4). */
    static byte[] renamed(byte[] body, String from, String to) throws IOException {
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(body));
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(body.length);
        DataOutputStream out = new DataOutputStream(bytes);
        out.writeLong(in.readLong());                               // magic number and version
        int count = in.readUnsignedShort();
        out.writeShort(count);
        for (int i = 1; i < count; i++) {
            int tag = in.readUnsignedByte();
            out.writeByte(tag);
            if (tag == UTF8) {
                String text = in.readUTF();
                out.writeUTF(text.equals(from) ? to : text);
            } else {
                out.write(in.readNBytes(size(tag)));
            }
            if (tag == LONG || tag == DOUBLE) i++;                  // these take two places
        }
        in.transferTo(out);
        return bytes.toByteArray();
    }

    private static int size(int tag) throws IOException {
        switch (tag) {
            case 7: case 8: case 16: case 19: case 20: return 2;    // class, string, method type, module, package
            case 15: return 3;                                      // method handle
            case 3: case 4: case 9: case 10: case 11: case 12: case 17: case 18: return 4;
            case LONG: case DOUBLE: return 8;
            default: throw new IOException("tag " + tag + " in the constant pool");
        }
    }
}
