// Stands in for Jenkins' Pipeline, of which no plug-in can be had here: runs a Jenkinsfile and prints what it would do, a line each.
// Exit codes of `sh(returnStatus: true)` come from CODES, in turn; then 0. What `input` is answered comes from ANSWER.
abstract class Pipeline extends Script {
    static codes = (System.getenv('CODES') ?: '').split(' ').findAll { it }.collect { it as int }
    static params = [GATE: System.getenv('GATE') != 'no']
    static scm = 'scm', none = 'none'
    static failed = null

    def methodMissing(String name, args) {
        def words = args.findAll { !(it instanceof Closure) }, block = args.find { it instanceof Closure }
        def named = words ? words[0] : null
        switch (name) {
            case 'stage': return stage(named, block)
            case 'post': say('post'); return block()
            case 'input': say("input: ${named.message}"); return System.getenv('ANSWER')
            case 'sh':
                if (named instanceof String) { say("sh ${named}"); return }
                int code = named.returnStatus && codes ? codes.remove(0) : 0
                say("sh ${named.script} -> ${code}")
                return code
            case 'error': throw new IllegalStateException(named as String)
            case ['unstable', 'withEnv', 'archiveArtifacts', 'junit']: say("${name} ${named}"); break
            case ['file', 'string', 'choice', 'booleanParam']: return "${name} ${named}".toString()
            case ['pipeline', 'agent', 'parameters', 'environment', 'options', 'stages', 'steps', 'script', 'always', 'node', 'checkout',
                  'withCredentials', 'disableConcurrentBuilds', 'timeout', 'expression']: break
            default: throw new MissingMethodException(name, Pipeline, args as Object[])
        }
        return block ? block() : null
    }

    /** Skipped where its `when` says no, and after a failure; a failure is kept for the end. */
    void stage(name, block) {
        def parts = [:], wanted = true
        inside(block, [when: { parts.when = it }, steps: { parts.steps = it }])
        if (parts.when) inside(parts.when, [expression: { wanted = it() }])
        if (failed || !wanted) { say("skip ${name}"); return }
        say("stage ${name}")
        try { parts.steps() } catch (IllegalStateException e) { failed = e.message; say("failed: ${failed}") }
    }

    static inside(Closure block, Map meanings) {
        block.delegate = new Words(meanings: meanings)
        block.resolveStrategy = Closure.DELEGATE_FIRST
        block()
    }

    void say(text) { println text }
}

class Words {
    Map meanings

    def methodMissing(String name, args) {
        if (!meanings[name]) throw new MissingMethodException(name, Words, args as Object[])
        meanings[name](args[0])
    }
}

def settings = new org.codehaus.groovy.control.CompilerConfiguration()
settings.scriptBaseClass = 'Pipeline'
new GroovyShell(Pipeline.classLoader, new Binding(), settings).parse(new File(args[0])).run()
