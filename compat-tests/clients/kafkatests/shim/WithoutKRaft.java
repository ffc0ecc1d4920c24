import org.junit.jupiter.api.extension.ConditionEvaluationResult;
import org.junit.jupiter.api.extension.ExecutionCondition;
import org.junit.jupiter.api.extension.ExtensionContext;

/** Of the tests that run once for each kind of metadata, those of the kind without a server to test. */
public class WithoutKRaft implements ExecutionCondition {
    @Override
    public ConditionEvaluationResult evaluateExecutionCondition(ExtensionContext context) {
        return context.getDisplayName().contains("quorum=kraft")
                ? ConditionEvaluationResult.disabled("KRaft")
                : ConditionEvaluationResult.enabled("");
    }
}
